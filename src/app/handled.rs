//! The outcome of handling a request.

use crate::{app::representation::Representation, http::response::Response, metrics::Handler};

/// The outcome of handling a request.
#[derive(Debug)]
pub(super) enum Handled<'a> {
    /// A response, and the handler that made it.
    Response(Handler, Response<'a>),
    /// F(n) is being computed; the response with this representation is made when it is there.
    Pending(u64, Representation),
}
