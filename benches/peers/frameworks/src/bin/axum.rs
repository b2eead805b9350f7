//! axum on a tokio runtime of one thread.

use axum::{
    Router,
    extract::Path,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{net::TcpListener, runtime::Builder};

fn main() {
    let numbers = frameworks::numbers();
    let respond = move |Path(n): Path<usize>| async move {
        match numbers.get(n).map(String::as_str) {
            Some(digits) => ([(CONTENT_TYPE, frameworks::TEXT)], digits).into_response(),
            None => Response::into_response(StatusCode::NOT_FOUND.into_response()),
        }
    };
    let routes = Router::new().route("/api/fibonacci/{n}", get(respond));
    let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::from_std(frameworks::listen()).expect("a listener");
        axum::serve(listener, routes).await.expect("a server");
    });
}
