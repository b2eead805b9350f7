//! actix-web with one worker.

use actix_web::{App, HttpResponse, HttpServer, web};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let numbers = frameworks::numbers();
    let application = move || {
        App::new().route(
            "/api/fibonacci/{n}",
            web::get().to(move |n: web::Path<usize>| async move {
                match numbers.get(*n).map(String::as_str) {
                    Some(digits) => HttpResponse::Ok().content_type(frameworks::TEXT).body(digits),
                    None => HttpResponse::NotFound().finish(),
                }
            }),
        )
    };
    HttpServer::new(application).workers(1).listen(frameworks::listen())?.run().await
}
