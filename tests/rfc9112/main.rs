//! Conformance to HTTP, requirement by requirement, on bytes and without sockets.
//!
//! The modules named after sections have a test for each requirement of RFC 9112 that binds an origin server as the
//! recipient of requests or the sender of responses. The other modules test this server's own guarantees, its limits
//! at their bounds, and RFC 9110.
//!
//! Requirements of RFC 9112 on other parties have no test here:
//!
//! | section | the party it binds, or why it does not apply |
//! |---|---|
//! | 2.2 | user agents: no extra CRLF around a request. Accepting LF as a line end is optional and not done. |
//! | 2.3 | intermediaries: their own version in what they forward. |
//! | 3.2, 3.2.1 to 3.2.4 | clients: which `Host` and which form of target they send. Proxies: `Host` and `*` in what they forward. |
//! | 3.3 | does not apply: the target URI is not reconstructed, because no response depends on scheme or host. |
//! | 4, 5.1, 5.2 | clients and proxies: reading status lines, white space and folds in responses. |
//! | 6.1 | codings other than chunked: none is sent and none understood. Clients: which codings they send. |
//! | 6.2, 6.3 | user agents and proxies: the length of responses, of what is sent, and of what is forwarded. |
//! | 7.1.2 | recipients that keep trailers: they are discarded. Intermediaries: forwarding them. |
//! | 7.2, 7.3 | compression codings and their registration. |
//! | 7.4 | clients: `TE` lists no chunked, and is named in `Connection`. |
//! | 8 | clients: incomplete responses, and caches: storing them. |
//! | 9.2, 9.3, 9.3.1, 9.3.2 | clients: matching responses to requests, reading them whole, retrying. Proxies: HTTP/1.0 clients. |
//! | 9.4, 9.5 | clients: how many connections, and watching one while sending. |
//! | 9.6 | clients: what to send and to read after `close`. |
//! | 9.7, 9.8 | TLS, which this server does not have. |
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
mod wire; // a connection to the server, and checks of whole exchanges

mod section_2_messages;
mod section_3_request_line;
mod section_4_status_line;
mod section_5_fields;
mod section_6_body;
mod section_6_length;
mod section_7_codings;
mod section_8_incomplete;
mod section_9_connections;

mod cross_origin; // scripts of other origins, and forms
mod description; // /openapi.json
mod files; // the page and the other static files
mod guarantees; // this server's own guarantees
mod gzip; // RFC 9110 section 8.4.1.3: numbers coded with gzip
mod limits; // each limit at its bound and one beyond
mod preconditions; // RFC 9110 section 13
mod ranges; // RFC 9110 section 14
mod representations; // RFC 9110 section 12, RFC 9457
mod rfc9110; // fields of responses, HEAD, expectations
mod smuggling; // streams that two recipients may split differently
