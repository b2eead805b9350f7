//! may_minihttp with one worker. It neither closes connections on request nor checks requests.

use std::io;

use may_minihttp::{HttpServer, HttpService, Request, Response};

#[derive(Clone)]
struct Numbers(&'static [String]);

impl HttpService for Numbers {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        match frameworks::digits(self.0, request.path()) {
            Some(digits) => {
                response.header("Content-Type: text/plain; charset=utf-8");
                response.body(digits);
            }
            None => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() {
    may::config().set_workers(1);
    let server = HttpServer(Numbers(frameworks::numbers()));
    let server = server.start(("127.0.0.1", frameworks::port())).expect("a server");
    server.wait();
}
