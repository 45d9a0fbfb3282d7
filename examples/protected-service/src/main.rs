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

#[cfg(test)]
mod tests {
    use actix_web::test::{TestRequest, call_service, init_service, read_body};
    use pasetors::keys::{AsymmetricKeyPair, Generate};
    use pasetors::paserk::{FormatAsPaserk, Id};
    use pasetors::version4::{PublicToken, V4};
    use serde_json::json;
    use time::format_description::well_known::Rfc3339;
    use time::{Duration, UtcDateTime};
    use vestibule_verifier::KeySet;

    use super::*;

    const USER: &str = "00000000-0000-0000-0000-000000000001";

    /// A token as Vestibule issues it, and the key that it is checked with.
    fn token(kyc: &str) -> (String, String) {
        let pair = AsymmetricKeyPair::<V4>::generate().unwrap();
        let (mut key, mut id) = (String::new(), String::new());
        pair.public.fmt(&mut key).unwrap();
        Id::from(&pair.public).fmt(&mut id).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the service goes by the system's clock")]
        let now = UtcDateTime::now();
        let text = |moment: UtcDateTime| moment.format(&Rfc3339).unwrap();
        let claims = json!({
            "iss": "http://127.0.0.1:8080", "aud": "http://127.0.0.1:8080", "sub": USER, "sid": USER, "jti": USER, "iat": text(now),
            "nbf": text(now), "exp": text(now + Duration::minutes(15)), "scope": "read write", "kyc": kyc,
        });
        let footer = json!({ "kid": id }).to_string();
        let signed =
            PublicToken::sign(&pair.secret, claims.to_string().as_bytes(), Some(footer.as_bytes()), None);
        (signed.unwrap(), key)
    }

    #[actix_web::test]
    async fn customers_come_as_far_as_they_are_known() {
        for (kyc, expected) in [("NONE", 403), ("KYC_0", 200)] {
            let (token, key) = token(kyc);
            let keys = KeySet::from_paserk([&*key]).unwrap();
            let verifier = Verifier::builder("http://127.0.0.1:8080", "http://127.0.0.1:8080").build(keys);
            let app = init_service(App::new().app_data(verifier).configure(routes)).await;
            let get = |path: &str| TestRequest::get().uri(path);
            let bearer = ("Authorization", format!("Bearer {token}"));

            let greeting = call_service(&app, get("/me").insert_header(bearer.clone()).to_request()).await;
            assert_eq!(read_body(greeting).await, format!("Hello {USER}, your level is {kyc}.\n"));
            let entered = call_service(&app, get("/vault").insert_header(bearer).to_request()).await;
            assert_eq!(entered.status().as_u16(), expected);
            assert_eq!(call_service(&app, get("/me").to_request()).await.status().as_u16(), 401);
        }
    }
}
