//! The mail server keeps to the protocol, said line by line.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use vestibule_testkit::{MailServer, Options, Security};

struct Dialogue(BufReader<TcpStream>);

impl Dialogue {
    async fn with(server: &MailServer) -> Self {
        let mut dialogue = Self(BufReader::new(TcpStream::connect(server.address()).await.unwrap()));
        assert_eq!(dialogue.hear().await, "220");
        dialogue
    }

    /// Says a line; the code of the reply.
    async fn say(&mut self, line: &str) -> String {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        self.hear().await
    }

    async fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            if line.get(3..4) != Some("-") {
                return line.get(..3).unwrap().to_owned();
            }
        }
    }
}

#[tokio::test]
async fn commands_come_in_their_order() {
    let server = MailServer::start(Options::default()).await.unwrap();
    let mut dialogue = Dialogue::with(&server).await;
    for (line, code) in [
        ("MAIL FROM:<a@example.com>", "503"),
        ("EHLO test", "250"),
        ("RCPT TO:<b@example.com>", "503"),
        ("DATA", "503"),
        ("MAIL FROM:a@example.com", "501"),
        ("mail from:<a@example.com> SIZE=10", "250"),
        ("DATA", "503"),
        ("RCPT TO:<b@example.com>", "250"),
        ("RSET", "250"),
        ("RCPT TO:<b@example.com>", "503"),
        ("VRFY b", "252"),
        ("STARTTLS", "502"),
        ("NOOP", "250"),
        ("NONSENSE", "502"),
        ("MAIL FROM:<a@example.com>", "250"),
        ("RCPT TO:<b@example.com>", "250"),
        ("DATA", "354"),
        ("Subject: dots\r\n\r\n..one\r\n...two\r\n.", "250"),
        ("QUIT", "221"),
    ] {
        assert_eq!(dialogue.say(line).await, code, "{line}");
    }
    assert_eq!(server.mails()[0].data, "Subject: dots\n\n.one\n..two\n");
}

#[tokio::test]
async fn nothing_is_taken_before_what_is_required() {
    let auth = Some(("user".to_owned(), "password".to_owned()));
    let server = MailServer::start(Options { auth, ..Options::default() }).await.unwrap();
    let mut dialogue = Dialogue::with(&server).await;
    for (line, code) in [
        ("EHLO test", "250"),
        ("MAIL FROM:<a@example.com>", "530"),
        ("AUTH PLAIN AHVzZXIAd3Jvbmc=", "535"),
        ("AUTH CRAM-MD5", "504"),
        ("AUTH PLAIN AHVzZXIAcGFzc3dvcmQ=", "235"),
        ("MAIL FROM:<a@example.com>", "250"),
    ] {
        assert_eq!(dialogue.say(line).await, code, "{line}");
    }
    let secured =
        MailServer::start(Options { security: Security::StartTls, ..Options::default() }).await.unwrap();
    let mut dialogue = Dialogue::with(&secured).await;
    assert_eq!(dialogue.say("EHLO test").await, "250");
    assert_eq!(dialogue.say("MAIL FROM:<a@example.com>").await, "530");
}
