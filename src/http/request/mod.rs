//! Parses requests: from the bytes of a head and a body to an owned [`head::Request`].

pub mod body;
mod chunk_extension;
pub mod escapes;
pub mod etag;
pub mod head;
mod head_cache;
pub mod headers;
pub mod limits;
pub mod lines;
mod parsed;
pub mod preferences;
pub mod range;
pub mod reject;
pub mod request_line;
pub mod scan;
pub mod target;
pub mod weight;
