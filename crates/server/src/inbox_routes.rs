//! The routes of the development inbox.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, Data, Query, ServiceConfig};
use serde::Deserialize;
use vestibule_inbox::{Inbox, PAGE};

/// Registers the inbox's page and its messages.
pub(crate) fn register(config: &mut ServiceConfig, inbox: Data<Inbox>) {
    config
        .app_data(inbox)
        .route("/dev/inbox", web::get().to(page))
        .route("/dev/inbox/messages", web::get().to(messages));
}

#[derive(Deserialize)]
struct Wanted {
    to: Option<String>,
    #[serde(default)]
    after: u64,
    /// In seconds.
    #[serde(default)]
    wait: u64,
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
        ))
        .body(PAGE)
}

async fn messages(inbox: Data<Inbox>, wanted: Query<Wanted>) -> HttpResponse {
    let wait = Duration::from_secs(wanted.wait.min(60));
    let messages = inbox.messages(wanted.to.as_deref(), wanted.after, wait).await;
    HttpResponse::Ok().json(serde_json::json!({ "messages": messages }))
}
