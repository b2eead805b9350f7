//! Evaluates the preconditions of a request (RFC 9110 section 13).

use crate::http::request::{
    etag::{self, Comparison},
    lines,
};

/// A precondition that is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FailedPrecondition {
    /// `If-Match` names another entity tag: 412.
    IfMatch,
    /// `If-None-Match` names the entity tag: 304.
    IfNoneMatch,
}

/// Returns the first precondition that is false, in their order of precedence (RFC 9110 section 13.2.2). `tag` is the
/// current entity tag, without quotes.
#[cold]
pub(super) fn failed_precondition(head: &[u8], tag: &[u8]) -> Option<FailedPrecondition> {
    let matches = |name, comparison| etag::matches(lines::values(head, name), tag, comparison);
    let has_if_match = lines::values(head, "if-match").next().is_some();
    if has_if_match && !matches("if-match", Comparison::Strong) {
        return Some(FailedPrecondition::IfMatch);
    }
    matches("if-none-match", Comparison::Weak).then_some(FailedPrecondition::IfNoneMatch)
}
