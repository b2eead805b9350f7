//! ntex with one worker.

use ntex::web;

#[ntex::main]
async fn main() -> std::io::Result<()> {
    let numbers = frameworks::numbers();
    let application = async move || {
        web::App::new().route(
            "/api/fibonacci/{n}",
            web::get().to(move |n: web::types::Path<usize>| async move {
                match numbers.get(*n).map(String::as_str) {
                    Some(digits) => {
                        web::HttpResponse::Ok().content_type(frameworks::TEXT).body(digits)
                    }
                    None => web::HttpResponse::NotFound().finish(),
                }
            }),
        )
    };
    web::HttpServer::new(application).workers(1).listen(frameworks::listen())?.run().await
}
