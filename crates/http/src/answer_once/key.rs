use actix_web::http::header::HeaderMap;
use vestibule_application::IdempotencyKey;

use super::IDEMPOTENCY_KEY;

/// The key: a string after RFC 8941, section 3.3.3, as the draft has it, or bare, as most clients send it. Both are the same key.
pub(super) fn parse(headers: &HeaderMap) -> Option<IdempotencyKey> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY);
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?.trim();
    match text.strip_prefix('"') {
        Some(quoted) => IdempotencyKey::parse(&unquote(quoted)?),
        None => IdempotencyKey::parse(text),
    }
}

/// What stands before the closing quote, which must be the last character.
fn unquote(quoted: &str) -> Option<String> {
    let mut characters = quoted.chars();
    let mut text = String::with_capacity(quoted.len());
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(text),
            '\\' => text.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use rstest::rstest;

    use super::*;

    fn key_of(values: &[&str]) -> Option<IdempotencyKey> {
        let request = values
            .iter()
            .fold(TestRequest::default(), |request, value| request.append_header((IDEMPOTENCY_KEY, *value)));
        parse(request.to_http_request().headers())
    }

    #[rstest]
    #[case("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324")]
    #[case("\"8e03978e\"", "8e03978e")]
    #[case(" 8e03978e ", "8e03978e")]
    #[case(r#""a\"b\\c""#, r#"a"b\c"#)]
    #[case(r#"a"b"#, r#"a"b"#)]
    fn a_key_is_a_string_or_bare(#[case] value: &str, #[case] key: &str) {
        assert!(key_of(&[value]) == IdempotencyKey::parse(key) && key_of(&[value]).is_some());
    }

    #[rstest]
    #[case(&[""])]
    #[case(&["\"\""])]
    #[case(&["\"open"])]
    #[case(&["\"a\"b"])]
    #[case(&["\"a\";b=1"])]
    #[case(&[r#""a\b""#])]
    #[case(&[r#""a\"#])]
    #[case(&["two words"])]
    #[case(&["\"two words\""])]
    #[case(&["schlüssel"])]
    #[case(&["a", "a"])]
    #[case(&[])]
    fn what_is_no_key_is_refused(#[case] values: &[&str]) {
        assert!(key_of(values).is_none());
    }

    #[test]
    fn a_key_has_at_most_255_characters() {
        assert!(key_of(&[&"k".repeat(255)]).is_some());
        assert!(key_of(&[&"k".repeat(256)]).is_none());
        assert!(key_of(&[&format!("\"{}\"", "k".repeat(255))]).is_some());
    }
}
