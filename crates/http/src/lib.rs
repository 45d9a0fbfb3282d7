//! The wire: routes, bodies, errors to statuses, the OpenAPI document.
//!
//! A handler translates: it reads the request, calls one use case and answers with its outcome. Every refusal becomes a
//! `Problem`, which one middleware writes in the language of the request.
//!
//! Not here: rules, storage, messages, and which adapters there are.

mod answer_once;
mod api;
mod body;
mod client;
mod docs;
mod finish;
mod handlers;
mod measure;
mod page;
mod partners;
mod problem;
mod services;
mod underway;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, HttpServer};
use ipnet::IpNet;
use vestibule_application::{Application, Callbacks, Wording};

pub use api::openapi;
pub use finish::finish;
pub use partners::Partners;
pub use services::Services;
pub use underway::Underway;

/// What the handlers need.
pub struct Http {
    /// The use cases.
    pub application: Arc<Application>,
    /// The texts.
    pub wording: Arc<Wording>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The `iss` of access tokens.
    pub issuer: String,
    /// Their `aud`.
    pub audience: String,
    /// Whose apps requests come from.
    pub partners: Partners,
    /// Who may ask what a token is worth.
    pub services: Services,
    /// What SMS providers tell at `POST /callbacks/sms/{provider}`, where any of them does.
    pub callbacks: Option<Callbacks>,
    /// How far the stop is, and what must have ended before.
    pub underway: Underway,
}

/// How long a client may take to send its request's head, and then its body.
const SLOW_CLIENT: Duration = Duration::from_secs(10);

/// Registers the public routes.
pub fn public(config: &mut ServiceConfig) {
    handlers::register(config);
    health(config);
}

/// Registers the health checks, which both listeners have.
pub fn health(config: &mut ServiceConfig) {
    handlers::register_health(config);
    config.default_service(web::to(handlers::not_found));
}

/// Starts to serve on a listener, with `routes` and whatever else they register. The future that is returned ends
/// when the server was stopped and has finished the requests that it had begun.
///
/// # Errors
/// When the listener cannot be used.
pub fn serve(
    listener: TcpListener,
    workers: usize,
    http: web::Data<Http>,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        App::new().app_data(http.clone()).wrap(from_fn(finish)).configure(routes.clone())
    })
    .workers(workers)
    .client_request_timeout(SLOW_CLIENT)
    .keep_alive(Duration::from_secs(75))
    .shutdown_timeout(15)
    .disable_signals()
    .listen(listener)?;
    Ok(server.run())
}
