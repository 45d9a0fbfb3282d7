//! The OpenAPI document to read in a browser, by Swagger UI. Its files are in the binary: the page loads nothing from elsewhere.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::{Arc, LazyLock};

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use actix_web::web::{Bytes, Path};
use futures_util::stream;
use utoipa_swagger_ui::Config;

use crate::problem::Problem;

/// What the page loads.
const PARTS: [&str; 7] = [
    "favicon-16x16.png",
    "favicon-32x32.png",
    "index.css",
    "swagger-initializer.js",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
];

/// How much of a file is on its way to a client at once, in bytes; the largest has a million and a half.
const CHUNK: usize = 32 * 1024;

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
    let name = PARTS.into_iter().find(|part| *part == *name).ok_or_else(Problem::not_found)?;
    let (bytes, media_type) = file(name)?;
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let starts = (0..bytes.len()).step_by(CHUNK);
    let chunks =
        starts.map(move |at| Ok::<_, Infallible>(bytes.slice(at..bytes.len().min(at.saturating_add(CHUNK)))));
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, media_type))
        .insert_header((CACHE_CONTROL, "public, max-age=3600"))
        .body(SizedStream::new(length, stream::iter(chunks))))
}

/// A file and its media type.
fn file(name: &str) -> Result<(Bytes, String), Problem> {
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| Arc::new(Config::from("openapi.json")));
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)) else {
        return Err(Problem::not_found());
    };
    let bytes = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Ok((bytes, file.content_type))
}
