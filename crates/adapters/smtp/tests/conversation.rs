//! The adapter in conversation with a server that keeps to the protocol.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::time::{Duration, Instant};

use rstest::rstest;
use vestibule_domain::EmailAddress;
use vestibule_port_email::{Email, EmailError, EmailSender as _};
use vestibule_smtp::{Settings, SettingsError, Smtp};
use vestibule_testkit::{MailServer, Options, Security, Stage};

const LINK: &str = "http://localhost/v2/mobile/email/confirm?email=YW5uYQ&event=ZW1haWw&token=abcdefghijklmnopqrstuvwxyz0123456789";

fn email(to: &str) -> Email {
    Email {
        to: EmailAddress::parse(to).unwrap(),
        subject: "Bestätige deine Adresse".to_owned(),
        text: format!("Bitte bestätige:\n\n{LINK}\n\n.Punkt am Anfang\n"),
        html: format!("<p>Bitte <a href=\"{LINK}\">bestätigen</a></p>"),
        id: "01a20d73-fe95".to_owned(),
    }
}

async fn send(server: &MailServer, email: &Email) -> Result<(), EmailError> {
    send_by(server, server.url(), email).await
}

async fn send_by(server: &MailServer, url: String, email: &Email) -> Result<(), EmailError> {
    let mut authority = tempfile::NamedTempFile::new().unwrap();
    authority.write_all(server.ca_pem().as_bytes()).unwrap();
    let settings = Settings {
        url: url.into(),
        from: "Vestibül <no-reply@example.com>".to_owned(),
        timeout: Duration::from_secs(2),
        ca_file: Some(authority.path().to_owned()),
    };
    let result = Smtp::new(&settings).unwrap().send(email).await;
    let shown = format!("{result:?} {email:?}");
    assert!(!shown.contains(email.to.as_str()) && !shown.contains("token="), "{shown}");
    result
}

async fn server(security: Security, auth: bool) -> MailServer {
    let auth = auth.then(|| ("user".to_owned(), "pass-word".to_owned()));
    MailServer::start(Options { security, auth, smtputf8: false }).await.unwrap()
}

#[rstest]
#[case(Security::Plain, false)]
#[case(Security::Plain, true)]
#[case(Security::StartTls, false)]
#[case(Security::StartTls, true)]
#[case(Security::Implicit, false)]
#[case(Security::Implicit, true)]
#[tokio::test]
async fn a_mail_arrives_whole(#[case] security: Security, #[case] auth: bool) {
    let server = server(security, auth).await;
    send(&server, &email("anna+app@example.com")).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails.len(), 1);
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_slice()),
        ("no-reply@example.com", ["anna+app@example.com".to_owned()].as_slice())
    );
    assert_eq!(mails[0].header("Message-ID").unwrap(), "<01a20d73-fe95@example.com>");
    assert_eq!(mails[0].header("Auto-Submitted").unwrap(), "auto-generated");
    assert!(mails[0].header("Content-Type").unwrap().starts_with("multipart/alternative"));
    assert!(mails[0].header("Date").is_some());
    let text = mails[0].part("text/plain").unwrap();
    assert!(text.contains(LINK) && text.contains("bestätige") && text.contains("\n.Punkt"), "{text}");
    assert!(mails[0].part("text/html").unwrap().contains(LINK));
}

#[tokio::test]
async fn a_domain_in_another_script_is_written_in_ascii() {
    let server = server(Security::Plain, false).await;
    send(&server, &email("anna@müller.example")).await.unwrap();
    assert_eq!(server.mails()[0].to, ["anna@xn--mller-kva.example"]);
}

#[tokio::test]
async fn a_local_part_in_another_script_needs_a_server_that_can() {
    let plain = server(Security::Plain, false).await;
    assert!(matches!(send(&plain, &email("zoë@example.com")).await, Err(EmailError::Permanent { .. })));
    let able = MailServer::start(Options { smtputf8: true, ..Options::default() }).await.unwrap();
    send(&able, &email("zoë@example.com")).await.unwrap();
    assert_eq!(able.mails()[0].to, ["zoë@example.com"]);
}

#[rstest]
#[case(Stage::Rcpt, "550 5.1.1 no such user")]
#[case(Stage::Rcpt, "553 5.1.3 no such address")]
#[case(Stage::EndOfData, "554 5.7.1 unwanted")]
#[tokio::test]
async fn what_the_server_refuses_for_good_is_permanent(#[case] stage: Stage, #[case] reply: &str) {
    let server = server(Security::Plain, false).await;
    server.refuse(stage, reply);
    assert!(matches!(send(&server, &email("anna@example.com")).await, Err(EmailError::Permanent { .. })));
}

#[rstest]
#[case(Stage::Greeting, "421 4.3.2 closing")]
#[case(Stage::Greeting, "554 5.3.2 no service here")]
#[case(Stage::Mail, "451 4.3.0 later")]
#[case(Stage::Mail, "530 5.7.0 authenticate")]
#[case(Stage::Mail, "550 5.7.1 sender rejected")]
#[case(Stage::Mail, "553 5.1.8 sender's domain unknown")]
#[case(Stage::Rcpt, "450 4.2.1 greylisted")]
#[case(Stage::Rcpt, "banana")]
#[case(Stage::Data, "452 4.3.1 full")]
#[case(Stage::EndOfData, "451 4.3.0 later")]
#[tokio::test]
async fn everything_else_is_temporary(#[case] stage: Stage, #[case] reply: &str) {
    let server = server(Security::Plain, false).await;
    server.refuse(stage, reply);
    assert!(matches!(send(&server, &email("anna@example.com")).await, Err(EmailError::Temporary { .. })));
    assert!(server.mails().is_empty());
    server.obey();
    send(&server, &email("anna@example.com")).await.unwrap();
}

#[rstest]
#[case(Stage::Greeting)]
#[case(Stage::Rcpt)]
#[case(Stage::EndOfData)]
#[tokio::test]
async fn a_server_that_stops_answering_is_given_up_in_time(#[case] stage: Stage) {
    let server = server(Security::Plain, false).await;
    server.stall(stage);
    let begun = Instant::now();
    assert!(matches!(send(&server, &email("anna@example.com")).await, Err(EmailError::Temporary { .. })));
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn nothing_is_said_in_clear_to_a_server_without_starttls() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        url: format!("smtp+starttls://user:pass-word@{}", listener.local_addr().unwrap()).into(),
        from: "no-reply@example.com".to_owned(),
        timeout: Duration::from_secs(5),
        ca_file: None,
    };
    let heard = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.write_all(b"220 mail ESMTP\r\n").unwrap();
        let mut heard = Vec::new();
        for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
            let reply: &[u8] = if line.starts_with("EHLO") {
                b"250-mail\r\n250 AUTH PLAIN LOGIN\r\n"
            } else {
                b"250 ok\r\n"
            };
            heard.push(line);
            if stream.write_all(reply).is_err() {
                break;
            }
        }
        heard
    });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sent =
        runtime.block_on(async { Smtp::new(&settings).unwrap().send(&email("anna@example.com")).await });
    assert!(matches!(sent, Err(EmailError::Temporary { .. })), "{sent:?}");
    drop(runtime);
    let heard = heard.join().unwrap();
    assert!(heard[0].starts_with("EHLO "), "{heard:?}");
    assert!(heard[1..].iter().all(|line| line == "QUIT"), "{heard:?}");
}

#[tokio::test]
async fn wrong_credentials_and_no_server_are_temporary() {
    let server = server(Security::Plain, true).await;
    let url = server.url().replace("pass-word", "wrong");
    assert!(matches!(
        send_by(&server, url, &email("anna@example.com")).await,
        Err(EmailError::Temporary { .. })
    ));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("smtp://{free}");
    assert!(matches!(
        send_by(&server, url, &email("anna@example.com")).await,
        Err(EmailError::Temporary { .. })
    ));
}

#[tokio::test]
async fn one_sender_serves_many_messages_and_outlives_its_connections() {
    let server = server(Security::Plain, false).await;
    let settings = Settings {
        url: server.url().into(),
        from: "no-reply@müller.example".to_owned(),
        timeout: Duration::from_secs(5),
        ca_file: None,
    };
    let smtp = std::sync::Arc::new(Smtp::new(&settings).unwrap());
    let sending: Vec<_> = (0..16)
        .map(|_| {
            let smtp = std::sync::Arc::clone(&smtp);
            tokio::spawn(async move { smtp.send(&email("anna@example.com")).await })
        })
        .collect();
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
    assert_eq!(server.mails().len(), 16);
    assert_eq!(server.mails()[0].from, "no-reply@xn--mller-kva.example");

    let address = server.address();
    drop(server);
    let server = loop {
        // The old one's port is free as soon as its task has ended.
        match MailServer::start_on(address, Options::default()).await {
            Ok(server) => break server,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    smtp.send(&email("anna@example.com")).await.unwrap();
    assert_eq!(server.mails().len(), 1);
}

#[tokio::test]
async fn an_id_that_is_no_message_id_is_refused() {
    let server = server(Security::Plain, false).await;
    for id in ["", "a>\r\nBcc: all@example.com", "a b", "ü"] {
        let hostile = Email { id: id.to_owned(), ..email("anna@example.com") };
        assert!(matches!(send(&server, &hostile).await, Err(EmailError::Permanent { .. })), "{id:?}");
    }
    assert!(server.mails().is_empty());
}

#[tokio::test]
async fn a_subject_cannot_carry_a_header() {
    let server = server(Security::Plain, false).await;
    let hostile = Email { subject: "Hi\r\nBcc: all@example.com".to_owned(), ..email("anna@example.com") };
    send(&server, &hostile).await.unwrap();
    let mails = server.mails();
    assert_eq!(mails[0].to, ["anna@example.com"]);
    assert_eq!(mails[0].header("Subject").unwrap(), "Hi  Bcc: all@example.com");
    assert!(mails[0].header("Bcc").is_none());
}

#[test]
fn settings_are_checked_and_not_repeated() {
    let settings = |url: &str, from: &str| Settings {
        url: url.to_owned().into(),
        from: from.to_owned(),
        timeout: Duration::from_secs(1),
        ca_file: None,
    };
    for url in [
        "",
        "mail.example.com",
        "http://mail.example.com",
        "smtp://",
        "smtp://user:hush@",
        "smtp://user@localhost",
        "smtp://a:b%00@localhost",
    ] {
        let error = Smtp::new(&settings(url, "a@example.com")).unwrap_err();
        assert!(matches!(error, SettingsError::Url) && !error.to_string().contains("hush"), "{url}");
    }
    assert!(matches!(Smtp::new(&settings("smtp://localhost", "nobody")), Err(SettingsError::From)));
}
