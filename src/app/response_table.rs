//! The table of numbers as responses: the digits of each follow the last fields of its head, so that a response is two
//! copies, [`Preamble`](crate::http::preamble::Preamble) and the rest.

use crate::{
    fibonacci::{Prefixed, Table, TableError},
    http::{render, response::Body},
};

/// F(0) to F(last) with the fields of their responses.
#[derive(Clone, Debug)]
pub struct ResponseTable(Table);

impl ResponseTable {
    /// Builds F(0) to F(last).
    pub fn new(last: u32) -> Result<Self, TableError> {
        Table::with_prefixes(last, render::push_number_fields).map(Self)
    }

    /// The content of the response with F(n), or `None` beyond the table.
    #[inline]
    pub fn get(&self, n: u64) -> Option<Body<'_>> {
        let Prefixed { bytes, prefix_bytes } = self.0.get_prefixed(n)?;
        Some(Body::Prefixed { bytes, fields_bytes: prefix_bytes })
    }

    /// The numbers.
    pub const fn numbers(&self) -> &Table {
        &self.0
    }
}
