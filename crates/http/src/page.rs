//! The page that a person sees who follows a confirmation link. It loads nothing from anywhere.

use actix_web::HttpResponseBuilder;
use actix_web::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use minijinja::{AutoEscape, Environment, context};

/// Where the link leads.
pub(crate) const PATH: &str = "/v2/mobile/email/confirm";

/// Whether the path may be opened in a browser.
pub(crate) fn is_page(path: &str) -> bool {
    path == PATH
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:28rem;margin:15vh auto;padding:0 1rem;color:#222}\
h1{font-size:1.4rem}button{font:inherit;padding:.6rem 1.4rem;border:0;border-radius:.4rem;background:#1a56db;color:#fff}";

const PAGE: &str = r#"<!doctype html>
<html lang="{{ language }}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{ title }}</title><style>{{ style|safe }}</style></head>
<body><h1>{{ title }}</h1><p>{{ text }}</p>
{%- if link %}
<form method="post" action="confirm">
<input type="hidden" name="email" value="{{ link.email }}"><input type="hidden" name="event" value="{{ link.event }}"><input type="hidden" name="token" value="{{ link.token }}">
<button>{{ button }}</button></form>
{%- endif %}
</body></html>
"#;

/// A page that says one thing.
pub(crate) fn message(language: &str, title: &str, text: &str) -> String {
    render(context! { language, title, text, style => STYLE })
}

/// A page with the one button that confirms. It posts, so that a mail scanner that follows links confirms nothing; and to where it was shown, whatever
/// stands before our path there.
pub(crate) fn button(language: &str, texts: [&str; 3], email: &str, event: &str, token: &str) -> String {
    let [title, text, button] = texts;
    let link = context! { email, event, token };
    render(context! { language, title, text, button, link, style => STYLE })
}

/// The head of a page: no scripts, nothing from elsewhere, and the link's token is not told to where one goes next.
pub(crate) fn headers(response: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    response
        .insert_header((CONTENT_TYPE, "text/html; charset=utf-8"))
        .insert_header((
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ))
        .insert_header((REFERRER_POLICY, "no-referrer"))
}

fn render(context: minijinja::Value) -> String {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.render_str(PAGE, context).unwrap_or_default()
}
