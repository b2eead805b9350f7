//! The labels of one name, as enumerations of their values.

use crate::{http::Reject, metrics::family::Labels};

/// Defines the values of a label.
macro_rules! label {
    ($(#[$doc:meta])* $label:ident, $name:literal, $($(#[$value_doc:meta])* $value:ident = $text:literal;)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $label { $($(#[$value_doc])* $value),* }

        impl $label {
            /// All values, in the order of the discriminants.
            pub const ALL: [Self; [$($text),*].len()] = [$(Self::$value),*];

            /// The text of the value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text),* }
            }
        }

        impl Labels for $label {
            const NAMES: &'static [&'static str] = &[$name];
            const VALUES: &'static [&'static str] = &[$($text),*];

            #[inline]
            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// What made the response.
    Handler, "handler",
    /// `/api/fibonacci/:n`.
    Fibonacci = "fibonacci";
    /// `/metrics`.
    Metrics = "metrics";
    /// `/healthz`.
    Healthz = "healthz";
    /// `/readyz`.
    Readyz = "readyz";
    /// `/`.
    Page = "page";
    /// `/openapi.json`.
    OpenApi = "openapi";
    /// `/robots.txt` and `/favicon.ico`.
    File = "file";
    /// No handler: no path matched, or the request was rejected before it had one.
    None = "none";
}

label! {
    /// Why the server closed a connection.
    CloseReason, "reason",
    /// No request was received in time.
    HeadTimeout = "head_timeout";
    /// No further request was received on a keep-alive connection.
    IdleTimeout = "idle_timeout";
    /// The client did not read the response in time.
    WriteTimeout = "write_timeout";
    /// The client did not close the connection after the last response.
    LingerTimeout = "linger_timeout";
    /// The connection limit was reached, and another connection was waiting.
    Evicted = "evicted";
}

label! {
    /// Why accepting paused.
    PauseReason, "reason",
    /// The connection limit was reached.
    Full = "full";
    /// `accept` failed for lack of a resource.
    Error = "error";
}

label! {
    /// Where a number was computed.
    Executor, "executor",
    /// On the compute thread.
    Thread = "thread";
    /// On the event loop.
    Loop = "loop";
}

label! {
    /// Why a number was not computed.
    RejectReason, "reason",
    /// Too many numbers were queued or being computed.
    Queue = "queue";
    /// The numbers being sent used all the memory of the cache.
    Memory = "memory";
    /// The compute thread could not be started.
    Thread = "thread";
}

label! {
    /// The form of a response that is not the plain text of a number or an error.
    ResponseForm, "form",
    /// A number in JSON.
    Json = "json";
    /// A number coded with gzip.
    Gzip = "gzip";
    /// A range of the digits of a number.
    Range = "range";
    /// Problem details of an error.
    Problem = "problem";
}

impl Labels for Reject {
    const NAMES: &'static [&'static str] = &["reason"];
    const VALUES: &'static [&'static str] = &reject_reasons();

    #[inline]
    fn index(self) -> usize {
        self as usize
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which checks the bounds")]
const fn reject_reasons() -> [&'static str; Reject::ALL.len()] {
    let mut reasons = [""; Reject::ALL.len()];
    let mut index = 0;
    while index < reasons.len() {
        reasons[index] = Reject::ALL[index].as_str();
        index += 1;
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_values() {
        fn check<L: Labels>(all: &[L], text: impl Fn(L) -> &'static str) {
            assert_eq!(all.len(), L::VALUES.len());
            for (index, label) in all.iter().enumerate() {
                assert_eq!((label.index(), L::VALUES[index]), (index, text(*label)));
            }
        }
        check(&Handler::ALL, Handler::as_str);
        check(&CloseReason::ALL, CloseReason::as_str);
        check(&PauseReason::ALL, PauseReason::as_str);
        check(&Executor::ALL, Executor::as_str);
        check(&RejectReason::ALL, RejectReason::as_str);
        check(&ResponseForm::ALL, ResponseForm::as_str);
        check(&Reject::ALL, Reject::as_str);
    }
}
