use std::future::pending;
use std::sync::{Mutex, Weak};

use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::*;
use crate::{KeySetError, Refusal, Verifier};

const PACE: Pace = Pace {
    refresh: Duration::from_mins(5),
    rest: Duration::from_secs(10),
    first_back_off: Duration::from_secs(1),
    last_back_off: Duration::from_mins(1),
};

const OLD: &str = "k4.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjo8";
const NEW: &str = "k4.public.cHFyc3R1dnd4eXp7fH1-f4CBgoOEhYaHiImKi4yNjpA";
const OLD_ID: &str = "k4.pid.9ShR3xc8-qVJ_di0tc9nx0IDIqbatdeM2mqLFBJsKRHs";
const NEW_ID: &str = "k4.pid.-nyvbaTz8U6TQz7OZWW-iB3va31iAxIpUgzUcVQVmW9A";

/// An endpoint that answers at once with these keys, or is down.
#[derive(Clone, Default)]
struct Endpoint(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    keys: Option<Vec<&'static str>>,
    asked: Vec<Instant>,
}

impl Endpoint {
    fn publish(&self, keys: &[&'static str]) {
        self.0.lock().unwrap().keys = Some(keys.to_vec());
    }

    fn go_down(&self) {
        self.0.lock().unwrap().keys = None;
    }

    fn asked(&self) -> Vec<Instant> {
        self.0.lock().unwrap().asked.clone()
    }

    fn keys(&self) -> RemoteKeys {
        RemoteKeys::spawn(&Handle::current(), self.clone(), PACE)
    }
}

impl Fetch for Endpoint {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut state = self.0.lock().unwrap();
        state.asked.push(Instant::now());
        let keys = state.keys.clone().ok_or(FetchError::TooLong)?;
        Ok(KeySet::from_paserk(keys)?)
    }
}

/// Lets time pass, and the background do what is due in it.
async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Why a token under this key is refused: no key, or no signature.
fn verdict(keys: &RemoteKeys, id: &str) -> Refusal {
    let footer = base64(format!(r#"{{"kid":"{id}"}}"#).as_bytes());
    let token = format!("v4.public.{}.{footer}", "A".repeat(100));
    Verifier::builder("issuer", "audience").build(keys.clone()).verify_now(&token).unwrap_err()
}

/// Base64url.
fn base64(bytes: &[u8]) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
}

#[tokio::test(start_paused = true)]
async fn a_rotation_is_noticed_with_the_next_refresh() {
    let endpoint = Endpoint::default();
    endpoint.publish(&[OLD]);
    let keys = endpoint.keys();
    keys.ready().await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);
    endpoint.publish(&[OLD, NEW]);
    pass(PACE.refresh).await;
    assert_eq!([OLD_ID, NEW_ID].map(|id| verdict(&keys, id)), [Refusal::BadSignature; 2]);
    endpoint.publish(&[NEW]);
    pass(PACE.refresh).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::UnknownKey, "a dropped key is still believed");
    assert_eq!(verdict(&keys, NEW_ID), Refusal::BadSignature);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_looked_for_soon() {
    let endpoint = Endpoint::default();
    endpoint.publish(&[OLD]);
    let keys = endpoint.keys();
    keys.ready().await;
    endpoint.publish(&[NEW]);
    pass(PACE.rest * 2).await;
    assert_eq!(verdict(&keys, NEW_ID), Refusal::UnknownKey);
    assert_eq!(endpoint.asked().len(), 1, "nobody missed a key before");
    pass(Duration::from_millis(1)).await;
    assert_eq!(verdict(&keys, NEW_ID), Refusal::BadSignature);
}

#[tokio::test(start_paused = true)]
async fn forged_key_names_do_not_hammer_the_endpoint() {
    let endpoint = Endpoint::default();
    endpoint.publish(&[OLD]);
    let keys = endpoint.keys();
    keys.ready().await;
    for _ in 0..600 {
        for _ in 0..10 {
            assert_eq!(verdict(&keys, NEW_ID), Refusal::UnknownKey);
        }
        pass(Duration::from_millis(100)).await;
    }
    let asked = endpoint.asked();
    assert!((5..=7).contains(&asked.len()), "{} fetches in a minute", asked.len());
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= PACE.rest));
}

#[tokio::test(start_paused = true)]
async fn failures_are_followed_by_longer_and_longer_waits() {
    let endpoint = Endpoint::default();
    let keys = endpoint.keys();
    for _ in 0..400 {
        keys.miss();
        pass(Duration::from_secs(1)).await;
    }
    let asked = endpoint.asked();
    let waits: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    let expected = [1, 2, 4, 8, 16, 32, 60, 60, 60].map(f64::from);
    for (wait, longest) in waits.iter().zip(expected) {
        assert!((longest * 0.74..=longest + 0.01).contains(wait), "{waits:?}");
    }
    assert!(waits.len() >= expected.len(), "{waits:?}");
    assert!(!keys.is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_down_at_the_start_is_waited_for() {
    let endpoint = Endpoint::default();
    let keys = endpoint.keys();
    pass(Duration::from_hours(1)).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::NoKeysYet);
    endpoint.publish(&[OLD]);
    pass(PACE.last_back_off).await;
    assert!(keys.is_ready());
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);
}

#[tokio::test(start_paused = true)]
async fn the_last_good_keys_stay_while_the_endpoint_is_down() {
    let endpoint = Endpoint::default();
    endpoint.publish(&[OLD]);
    let keys = endpoint.keys();
    keys.ready().await;
    endpoint.go_down();
    pass(Duration::from_hours(72)).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);
    // An empty answer is no answer.
    endpoint.publish(&[]);
    pass(Duration::from_hours(1)).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);
    endpoint.publish(&[NEW]);
    pass(PACE.last_back_off).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::UnknownKey);
    assert_eq!(verdict(&keys, NEW_ID), Refusal::BadSignature);
}

/// An endpoint that never answers, and shows whether somebody still waits for it.
struct Silent(#[expect(dead_code, reason = "dropped with the background")] Arc<()>);

impl Fetch for Silent {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        pending().await
    }
}

/// Ends when the background has let go.
async fn ended(background: &Weak<()>) {
    for _ in 0..1000 {
        if background.strong_count() == 0 {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the background goes on");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_fetch_and_the_last_handle_ends_it() {
    let alive = Arc::new(());
    let background = Arc::downgrade(&alive);
    let keys = RemoteKeys::spawn(&Handle::current(), Silent(alive), PACE);
    let other = keys.clone();
    pass(Duration::from_hours(1)).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::NoKeysYet);
    drop(keys);
    pass(Duration::from_secs(1)).await;
    assert_eq!(background.strong_count(), 1, "a handle is left");
    drop(other);
    ended(&background).await;
}

/// A server on loopback that answers every connection with what it has at the time, and then closes it, or not.
#[derive(Clone)]
struct Server {
    url: String,
    answer: Arc<Mutex<Vec<u8>>>,
    answered: Arc<watch::Sender<u32>>,
}

impl Server {
    async fn start(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/.well-known/paseto-keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(answer.into()));
        let server = Self { url, answer, answered: Arc::default() };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let answer = serving.answer.lock().unwrap().clone();
                serving.answered.send_modify(|answered| *answered += 1);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n")
                        && client.read_buf(&mut request).await.unwrap_or(0) > 0
                    {}
                    assert!(request.starts_with(b"GET /.well-known/paseto-keys HTTP/1.1\r\n"));
                    let _ = client.write_all(&answer).await;
                    match then {
                        Then::Close => {}
                        Then::Stall => pending().await,
                        Then::GoOn => while client.write_all(&answer).await.is_ok() {},
                    }
                });
            }
        });
        server
    }

    fn answer_with(&self, answer: impl Into<Vec<u8>>) {
        *self.answer.lock().unwrap() = answer.into();
    }

    /// Waits until so many more requests have come.
    async fn asked(&self, more: u32) {
        let mut answered = self.answered.subscribe();
        let enough = *answered.borrow() + more;
        answered.wait_for(|answered| *answered >= enough).await.unwrap();
    }

    fn fetcher(&self, timeout: Duration) -> Fetcher {
        Fetcher::new(Url::parse(&self.url).unwrap(), timeout).unwrap()
    }
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Stall,
    GoOn,
}

fn good(keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> =
        keys.iter().map(|(kid, key)| serde_json::json!({ "kid": kid, "key": key, "active": true })).collect();
    answer("200 OK", &serde_json::json!({ "keys": keys }).to_string())
}

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn keys_come_over_http() {
    let server = Server::start(good(&[(OLD_ID, OLD), (NEW_ID, NEW)]), Then::Close).await;
    let keys = server.fetcher(Duration::from_secs(5)).fetch().await.unwrap();
    assert_eq!(keys.ids().collect::<Vec<_>>(), [OLD_ID, NEW_ID]);
}

#[rstest]
#[case::error(answer("500 Internal Server Error", "{}"), "the status is 500 Internal Server Error")]
#[case::unchanged(answer("304 Not Modified", ""), "the status is 304 Not Modified")]
#[case::elsewhere(
    "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_owned(),
    "the status is 302 Found"
)]
#[case::garbage(answer("200 OK", "<html>"), &KeySetError::Form.to_string())]
#[case::nothing(answer("200 OK", ""), &KeySetError::Form.to_string())]
#[case::no_keys(answer("200 OK", r#"{"keys":[]}"#), &KeySetError::Empty.to_string())]
#[case::huge(answer("200 OK", &" ".repeat(64 * 1024 + 1)), "the answer is too long")]
#[case::cut_off(good(&[(OLD_ID, OLD)]).replace("length: ", "length: 9"), "no answer: the connection broke")]
#[case::no_http("what?\r\n\r\n".to_owned(), "no answer: the connection broke")]
#[case::hung_up(String::new(), "no answer: the connection broke")]
#[tokio::test]
async fn an_answer_that_makes_no_sense_is_a_failure(#[case] answer: String, #[case] error: &str) {
    let server = Server::start(answer, Then::Close).await;
    let fetched = server.fetcher(Duration::from_secs(5)).fetch().await;
    assert_eq!(fetched.unwrap_err().to_string(), error);
}

#[tokio::test]
async fn an_answer_without_an_end_is_not_read_on() {
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", " ".repeat(1024));
    let server = Server::start(endless, Then::GoOn).await;
    let fetched = server.fetcher(Duration::from_secs(30)).fetch().await;
    assert!(matches!(fetched, Err(FetchError::TooLong)), "{fetched:?}");
}

#[rstest]
#[case::no_head("")]
#[case::no_body("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":")]
#[tokio::test]
async fn an_answer_that_stalls_is_not_waited_for(#[case] beginning: &str) {
    let server = Server::start(beginning, Then::Stall).await;
    let fetcher = server.fetcher(Duration::from_millis(50));
    let fetched = tokio::time::timeout(Duration::from_secs(20), fetcher.fetch()).await.unwrap();
    assert_eq!(fetched.unwrap_err().to_string(), "no answer: it took too long");
}

#[tokio::test]
async fn nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/?password", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let fetched = Fetcher::new(url, Duration::from_secs(5)).unwrap().fetch().await;
    assert_eq!(fetched.unwrap_err().to_string(), "no answer: no connection");
}

/// All of it, in the order in which a bad day brings it: down at the start, up, garbage, another key.
#[tokio::test]
async fn a_bad_day_over_http() {
    let server = Server::start("", Then::Close).await;
    let ms = Duration::from_millis;
    let pace = Pace { refresh: ms(20), rest: ms(5), first_back_off: ms(5), last_back_off: ms(20) };
    let keys = RemoteKeys::spawn(&Handle::current(), server.fetcher(Duration::from_secs(5)), pace);
    server.asked(2).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::NoKeysYet);

    server.answer_with(good(&[(OLD_ID, OLD)]));
    keys.ready().await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);

    server.answer_with(answer("200 OK", "<html>"));
    // The last of these comes after one before was answered and judged.
    server.asked(3).await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);

    server.answer_with(good(&[(NEW_ID, NEW)]));
    let mut changes = keys.keys.clone();
    changes.wait_for(|keys| keys.as_ref().is_some_and(|keys| keys.find(NEW_ID).is_some())).await.unwrap();
    assert_eq!(verdict(&keys, OLD_ID), Refusal::UnknownKey);
    assert_eq!(verdict(&keys, NEW_ID), Refusal::BadSignature);
}

#[tokio::test]
async fn the_usual_start_reaches_the_endpoint() {
    let server = Server::start(good(&[(OLD_ID, OLD)]), Then::Close).await;
    let keys = RemoteKeys::start(&server.url).unwrap();
    keys.ready().await;
    assert_eq!(verdict(&keys, OLD_ID), Refusal::BadSignature);
}

#[rstest]
#[case::no_url("somewhere", "the URL of the keys is not valid")]
#[case::another_scheme("ftp://id.example.com/", "the URL of the keys is not valid")]
#[case::plain(
    "http://id.example.com/",
    "keys over `http` can be forged on the way; use `https`, or allow it"
)]
#[case::almost_local(
    "http://localhost.example.com/",
    "keys over `http` can be forged on the way; use `https`, or allow it"
)]
#[tokio::test]
async fn where_keys_cannot_come_from(#[case] url: &str, #[case] error: &str) {
    assert_eq!(RemoteKeys::start(url).unwrap_err().to_string(), error);
}

#[rstest]
#[case("http://localhost:1/")]
#[case("http://127.0.0.1:1/")]
#[case("http://[::1]:1/")]
#[tokio::test]
async fn keys_of_this_machine_may_come_in_plain(#[case] url: &str) {
    RemoteKeys::start(url).unwrap();
}

#[tokio::test]
async fn plain_http_may_be_allowed() {
    RemoteKeys::builder("http://vestibule.invalid/").allow_plain_http().start().unwrap();
}

#[test]
fn without_a_runtime_there_is_no_background() {
    let started = RemoteKeys::start("http://localhost:1/");
    assert!(matches!(started, Err(RemoteKeysError::NoRuntime)), "{started:?}");
}
