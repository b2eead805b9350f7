//! What HTTP asks of this server, requirement by requirement: bytes in, bytes out, no sockets.
//!
//! The modules named after sections have a test for each requirement of RFC 9112 that binds an origin server
//! as the recipient of requests or as the sender of responses. The others have what this server promises
//! beyond that: a test for each sentence of its behaviour, limits at their bounds, and RFC 9110.
//!
//! What RFC 9112 requires of somebody else has no test here:
//!
//! | section | whom it binds, or why it has no object here |
//! |---|---|
//! | 2.2 | user agents: no extra CRLF around a request. Reading LF as a line end is leave, which is not taken. |
//! | 2.3 | intermediaries: their own version in what they forward. |
//! | 3.2, 3.2.1 to 3.2.4 | clients: which `Host` and which form of target they send. Proxies: `Host` and `*` in what they forward. |
//! | 3.3 | nobody: the target URI is not reconstructed, as the answer depends on neither scheme nor host. |
//! | 4, 5.1, 5.2 | clients and proxies: reading status lines, white space and folds in responses. |
//! | 6.1 | codings other than chunked: none is sent and none understood. Clients: which codings they send. |
//! | 6.2, 6.3 | user agents and proxies: the length of responses, of what is sent, and of what is forwarded. |
//! | 7.1.2 | who keeps trailers: they are discarded. Intermediaries: forwarding them. |
//! | 7.2, 7.3 | who compresses, and who registers codings. |
//! | 7.4 | clients: `TE` lists no chunked, and is named in `Connection`. |
//! | 8 | clients: incomplete responses, and caches: storing them. |
//! | 9.2, 9.3, 9.3.1, 9.3.2 | clients: matching answers to requests, reading them whole, retrying. Proxies: 1.0 peers. |
//! | 9.4, 9.5 | clients: how many connections, and watching one while sending. |
//! | 9.6 | clients: what to send and to read after `close`. |
//! | 9.7, 9.8 | those who speak TLS: this server does not. |
//! | 10 | recipients of `message/http` and `application/http`: never sent, and a body is not interpreted. |

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

#[path = "../offline/mod.rs"]
mod offline; // a connection and the application without a socket
#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/parser.rs"]
mod parser; // a strict parser of responses
#[expect(dead_code, reason = "other targets use more of it")]
#[path = "../kit/reply.rs"]
mod reply; // a response that owns its text
mod wire; // streams to the server, and what is to become of them

mod section_2_messages;
mod section_3_request_line;
mod section_4_status_line;
mod section_5_fields;
mod section_6_body;
mod section_6_length;
mod section_7_codings;
mod section_8_incomplete;
mod section_9_connections;

mod behaviour; // what this server promises, sentence by sentence
mod conditions; // RFC 9110 section 13: preconditions
mod limits; // each limit at its bound and one beyond
mod semantics; // RFC 9110: fields of responses, HEAD, expectations
mod smuggling; // streams that two readers may cut differently
