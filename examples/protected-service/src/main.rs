//! A service of somebody else that lets Vestibule's customers in. It learns the keys from Vestibule's endpoint, and asks it
//! nothing about any request.

use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer, get};
use vestibule_verifier::{Authenticated, KycLevel, Refusal, RemoteKeys, Verifier};

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let setting = |name, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let vestibule = setting("VESTIBULE_URL", "http://127.0.0.1:8080");
    let issuer = setting("VESTIBULE_ISSUER", &vestibule);
    let audience = setting("VESTIBULE_AUDIENCE", &issuer);

    let keys = RemoteKeys::start(format!("{vestibule}/.well-known/paseto-keys"))?;
    let verifier = Verifier::builder(issuer, audience).build(keys);
    let serve = HttpServer::new(move || App::new().app_data(verifier.clone()).configure(routes));
    serve.bind(setting("LISTEN", "127.0.0.1:8090"))?.run().await?;
    Ok(())
}

fn routes(config: &mut ServiceConfig) {
    config.service(me).service(vault);
}

/// For everybody who is signed in.
#[get("/me")]
async fn me(user: Authenticated) -> String {
    format!("Hello {}, your level is {}.\n", user.user_id, user.kyc)
}

/// For those whose personal details are known.
#[get("/vault")]
async fn vault(user: Authenticated) -> Result<String, Refusal> {
    user.require_kyc(KycLevel::KYC_0)?;
    Ok(format!("Welcome to the vault, {}.\n", user.user_id))
}
