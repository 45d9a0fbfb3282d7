//! The OpenAPI document to read in a browser, by Swagger UI. Its files are in the binary: the page loads nothing from elsewhere.

use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::Path;
use utoipa_swagger_ui::Config;

use crate::problem::Problem;

/// The page. Whatever stands before our paths, it finds its files and the document beside itself.
pub(crate) async fn page() -> Result<HttpResponse, Problem> {
    let (bytes, media_type) = file("index.html")?;
    let page = String::from_utf8_lossy(&bytes).replace("=\"./", "=\"");
    let page = page.replace("src=\"", "src=\"docs/").replace("href=\"", "href=\"docs/");
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'",
        ))
        .body(page))
}

/// A file of the page.
pub(crate) async fn part(name: Path<String>) -> Result<HttpResponse, Problem> {
    let (bytes, media_type) = file(&name)?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"))
        .body(bytes))
}

/// A file and its media type.
fn file(name: &str) -> Result<(Vec<u8>, String), Problem> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("openapi.json")));
    match utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => Ok((file.bytes.into_owned(), file.content_type)),
        Ok(None) | Err(_) => Err(Problem::not_found()),
    }
}
