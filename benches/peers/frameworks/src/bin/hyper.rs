//! hyper on a tokio runtime of one thread.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, header::CONTENT_TYPE, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Builder, task::LocalSet};

fn main() {
    let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, serve());
}

async fn serve() {
    let numbers = frameworks::numbers();
    let listener = TcpListener::from_std(frameworks::listen()).expect("a listener");
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let service =
            service_fn(move |request: hyper::Request<hyper::body::Incoming>| async move {
                let digits = frameworks::digits(numbers, request.uri().path());
                let status = if digits.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
                let body = Full::new(Bytes::from_static(digits.unwrap_or_default().as_bytes()));
                let response =
                    Response::builder().status(status).header(CONTENT_TYPE, frameworks::TEXT);
                Ok::<_, Infallible>(response.body(body).expect("a valid response"))
            });
        tokio::task::spawn_local(async move {
            let mut connection = http1::Builder::new();
            // An error is that of a client, as when wrk ends.
            let _ended = connection
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
