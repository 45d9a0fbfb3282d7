use std::fmt;
use std::sync::Arc;

use pasetors::keys::AsymmetricPublicKey;
use pasetors::paserk::{FormatAsPaserk, Id};
use pasetors::version4::V4;
use serde::Deserialize;

/// The keys that tokens may be signed with: at least one. Copies share them.
#[derive(Clone)]
pub struct KeySet {
    keys: Arc<[Key]>,
}

struct Key {
    id: String,
    public: AsymmetricPublicKey<V4>,
}

/// Why there is no key set. None of these repeats what was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// It is not `{"keys": [{"kid": …, "key": …}, …]}`.
    #[error("the key set is not of the expected form")]
    Form,
    /// A key says that it is a `k4.public`, and is none.
    #[error("the key set has a `k4.public` key that is not valid")]
    Key,
    /// The name of a key is not its PASERK `k4.pid`.
    #[error("the key set has a key under a name that is not its own")]
    Name,
    /// There is no key in it.
    #[error("the key set has no `k4.public` key")]
    Empty,
}

impl KeySet {
    /// Reads what `GET /.well-known/paseto-keys` answers. Keys of other kinds than `k4.public` are left out, as are
    /// members that are not known here.
    ///
    /// # Errors
    /// When any `k4.public` key is not valid or wrongly named, or when there is none.
    pub fn from_json(json: &[u8]) -> Result<Self, KeySetError> {
        let published: Published = serde_json::from_slice(json).map_err(|_| KeySetError::Form)?;
        let mut keys = Vec::new();
        for entry in published.keys.iter().filter(|entry| entry.key.starts_with("k4.public.")) {
            let key = Key::parse(&entry.key)?;
            if key.id != entry.kid {
                return Err(KeySetError::Name);
            }
            keys.push(key);
        }
        Self::of(keys)
    }

    /// Reads keys in their PASERK form, `k4.public.…`.
    ///
    /// # Errors
    /// When any of them is not valid, or when there is none.
    pub fn from_paserk<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, KeySetError> {
        Self::of(keys.into_iter().map(Key::parse).collect::<Result<_, _>>()?)
    }

    /// The names of the keys (PASERK `k4.pid`), by which the footers of tokens call them.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.id.as_str())
    }

    /// The key of that name.
    pub(crate) fn find(&self, id: &str) -> Option<&AsymmetricPublicKey<V4>> {
        self.keys.iter().find(|key| key.id == id).map(|key| &key.public)
    }

    fn of(keys: Vec<Key>) -> Result<Self, KeySetError> {
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self { keys: keys.into() })
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySet")?;
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Key {
    fn parse(paserk: &str) -> Result<Self, KeySetError> {
        let public = AsymmetricPublicKey::try_from(paserk).map_err(|_| KeySetError::Key)?;
        let mut id = String::new();
        Id::from(&public).fmt(&mut id).map_err(|_| KeySetError::Key)?;
        Ok(Self { id, public })
    }
}

/// The endpoint's answer.
#[derive(Deserialize)]
struct Published {
    keys: Vec<PublishedKey>,
}

#[derive(Deserialize)]
struct PublishedKey {
    kid: String,
    key: String,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "k4.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8";
    const ID: &str = "k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs";

    fn from_json(json: &Value) -> Result<Vec<String>, KeySetError> {
        KeySet::from_json(json.to_string().as_bytes()).map(|keys| keys.ids().map(str::to_owned).collect())
    }

    fn vectors(file: &str) -> Vec<Value> {
        let file: Value = serde_json::from_str(file).unwrap();
        file["tests"].as_array().unwrap().clone()
    }

    /// Each official key has its official name.
    #[test]
    fn the_official_keys_and_names() {
        let keys = vectors(include_str!("../tests/vectors/k4.public.json"));
        let names = vectors(include_str!("../tests/vectors/k4.pid.json"));
        let (mut good, mut bad) = (0, 0);
        for test in &keys {
            let bytes = hex::decode(test["key"].as_str().unwrap()).unwrap();
            if test["expect-fail"] == true {
                assert!(AsymmetricPublicKey::<V4>::from(&bytes).is_err(), "{}", test["name"]);
                bad += 1;
                continue;
            }
            let key = Key::parse(test["paserk"].as_str().unwrap()).unwrap();
            assert_eq!(key.public.as_bytes(), bytes, "{}", test["name"]);
            let name = names.iter().find(|name| name["key"] == test["key"]).unwrap();
            assert_eq!(key.id, name["paserk"].as_str().unwrap(), "{}", test["name"]);
            good += 1;
        }
        for test in names.iter().filter(|test| test["expect-fail"] == true) {
            let bytes = hex::decode(test["key"].as_str().unwrap()).unwrap();
            assert!(AsymmetricPublicKey::<V4>::from(&bytes).is_err(), "{}", test["name"]);
            bad += 1;
        }
        assert_eq!((good, bad), (3, 3));
    }

    #[test]
    fn the_answer_of_the_endpoint_is_read() {
        let answer = json!({ "keys": [{ "kid": ID, "key": KEY, "active": true, "new": [] }], "more": 1 });
        assert_eq!(from_json(&answer), Ok(vec![ID.to_owned()]));
    }

    #[test]
    fn keys_of_other_kinds_are_left_out() {
        let other = json!({ "kid": "k5.pid.x", "key": "k5.public.x" });
        let answer = json!({ "keys": [other, { "kid": ID, "key": KEY }] });
        assert_eq!(from_json(&answer), Ok(vec![ID.to_owned()]));
        assert_eq!(from_json(&json!({ "keys": [other] })), Err(KeySetError::Empty));
    }

    #[rstest]
    #[case::empty_list(json!({ "keys": [] }), KeySetError::Empty)]
    #[case::no_list(json!({}), KeySetError::Form)]
    #[case::null(json!({ "keys": null }), KeySetError::Form)]
    #[case::bare_list(json!([{ "kid": ID, "key": KEY }]), KeySetError::Form)]
    #[case::no_name(json!({ "keys": [{ "key": KEY }] }), KeySetError::Form)]
    #[case::another_name(json!({ "keys": [{ "kid": "k4.pid.x", "key": KEY }] }), KeySetError::Name)]
    #[case::short_key(json!({ "keys": [{ "kid": ID, "key": "k4.public.AAAA" }] }), KeySetError::Key)]
    #[case::one_bad_of_two(
        json!({ "keys": [{ "kid": ID, "key": KEY }, { "kid": ID, "key": "k4.public." }] }), KeySetError::Key
    )]
    fn what_is_no_key_set(#[case] answer: Value, #[case] error: KeySetError) {
        assert_eq!(from_json(&answer), Err(error));
    }

    #[rstest]
    #[case::secret(
        "k4.secret.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8c5WpIyC_5kWKhS8VEYSZ05dYfuTF-ZdQFV4D9vLTcNQ"
    )]
    #[case::local("k4.local.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8")]
    #[case::version_2("k2.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8")]
    #[case::padded("k4.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8=")]
    #[case::nothing("")]
    fn what_is_no_public_key(#[case] key: &str) {
        assert_eq!(KeySet::from_paserk([KEY, key]).err(), Some(KeySetError::Key));
    }
}
