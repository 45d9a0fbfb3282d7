//! The adapter against an SMSC that others wrote, so that a misreading of the specification is not shared by both sides.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;
use smpp34::server::ESME;
use smpp34::{
    SmppConnectionInformation, SmppServer, SmppServerListener, TlvTag, bind_transceiver,
    bind_transceiver_resp, submit_sm, submit_sm_resp, unbind, unbind_resp,
};
use tokio::sync::watch;
use vestibule_domain::{MessageId, PhoneNumber};
use vestibule_port_sms::{Delivery, DeliveryReport, DeliveryReports, Reported, Sms, SmsSender as _};
use vestibule_smpp::{ENQUIRE_LINK, ReceiptIds, Settings, Smpp, TIMEOUT, WINDOW};

const PATIENCE: Duration = Duration::from_secs(20);

/// What the SMSC saw, and the session over which it delivers.
#[derive(Default)]
struct Smsc {
    binds: Mutex<Vec<(String, String, u8)>>,
    submissions: Mutex<Vec<submit_sm>>,
    session: Mutex<Option<Arc<ESME>>>,
    unbinds: watch::Sender<usize>,
}

#[async_trait]
impl SmppServerListener for Smsc {
    async fn on_bind_transceiver(
        &self,
        request: bind_transceiver,
        _: &SmppConnectionInformation,
        _: &String,
    ) -> bind_transceiver_resp {
        let bind = (request.system_id.clone(), request.password.clone(), request.interface_version);
        self.binds.lock().unwrap().push(bind);
        request.accept("Foreign".to_owned(), Some(0x34))
    }

    async fn on_esme_bound(&self, session: ESME, _: &String) {
        *self.session.lock().unwrap() = Some(Arc::new(session));
    }

    async fn on_submit_sm(
        &self,
        request: submit_sm,
        _: &SmppConnectionInformation,
        _: &String,
    ) -> submit_sm_resp {
        let id = {
            let mut submissions = self.submissions.lock().unwrap();
            submissions.push(request.clone());
            format!("foreign-{}", submissions.len())
        };
        request.accept(id)
    }

    async fn on_unbind(&self, request: unbind, _: &SmppConnectionInformation, _: &String) -> unbind_resp {
        self.unbinds.send_modify(|count| *count += 1);
        request.accept()
    }
}

#[derive(Default)]
struct Reports(Mutex<Vec<DeliveryReport>>);

#[async_trait]
impl DeliveryReports for Reports {
    async fn record(&self, report: DeliveryReport) -> bool {
        self.0.lock().unwrap().push(report);
        true
    }
}

fn sms(text: &str) -> Sms {
    Sms {
        id: MessageId::new(uuid::Uuid::from_u128(7)),
        to: PhoneNumber::parse("+447871234567").unwrap(),
        text: text.to_owned(),
    }
}

/// The server cannot say which free port it took, so it is told one; another may take that in the meantime.
async fn started(smsc: &Arc<Smsc>) -> (SmppServer, u16) {
    loop {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let mut server = SmppServer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port, Arc::clone(smsc) as Arc<_>);
        server.start().await;
        if server.is_alive() {
            return (server, port);
        }
    }
}

#[tokio::test]
async fn a_whole_session() {
    let smsc = Arc::new(Smsc::default());
    let (mut server, port) = started(&smsc).await;
    let settings = Settings {
        url: SecretString::from(format!("smpp://vestibule:s3cr%40t@127.0.0.1:{port}")),
        from: "+15005550006".to_owned(),
        from_type: None,
        system_type: String::new(),
        window: WINDOW,
        per_second: None,
        enquire_link: ENQUIRE_LINK,
        timeout: TIMEOUT,
        ca_file: None,
        receipt_ids: ReceiptIds::AsGiven,
        jitter_seed: 7,
    };
    let reports = Arc::<Reports>::default();
    let smpp = Smpp::start(settings, Arc::clone(&reports) as Arc<dyn DeliveryReports>).unwrap();
    smpp.wait_until_bound(PATIENCE).await.unwrap();
    assert_eq!(*smsc.binds.lock().unwrap(), [("vestibule".to_owned(), "s3cr@t".to_owned(), 0x34)]);

    assert_eq!(smpp.send(&sms("Your code: 123456 @ €5")).await.unwrap().reference, "foreign-1");
    assert_eq!(smpp.send(&sms("Код ё")).await.unwrap().reference, "foreign-2");
    assert_eq!(smpp.send(&sms(&"x".repeat(161))).await.unwrap().reference, "foreign-3");
    {
        let submissions = smsc.submissions.lock().unwrap();
        let narrow = &submissions[0];
        assert_eq!(
            (narrow.source_addr.as_str(), narrow.source_addr_ton, narrow.source_addr_npi),
            ("15005550006", 1, 1)
        );
        assert_eq!(
            (narrow.destination_addr.as_str(), narrow.dest_addr_ton, narrow.dest_addr_npi),
            ("447871234567", 1, 1)
        );
        assert_eq!((narrow.esm_class, narrow.data_coding, narrow.registered_delivery), (0, 0, 1));
        assert_eq!(narrow.short_message, b"Your code: 123456 \x00 \x1b\x655");
        let wide = &submissions[1];
        assert_eq!((wide.esm_class, wide.data_coding), (0, 8));
        assert_eq!(wide.short_message, b"\x04\x1a\x04\x3e\x04\x34\x00\x20\x04\x51");
        let parts: Vec<_> =
            submissions[2..].iter().map(|part| (part.esm_class, part.short_message.len())).collect();
        assert_eq!(parts, [(0x40, 6 + 153), (0x40, 6 + 8)]);
    }

    let session = smsc.session.lock().unwrap().clone().unwrap();
    let receipt = session
        .deliver_sm()
        .source_addr("447871234567")
        .destination_addr("15005550006")
        .esm_class(0x04)
        .short_message(b"id:foreign-1 sub:001 dlvrd:001 stat:DELIVRD err:000 text:Your code".to_vec())
        .tlv(TlvTag::ReceiptedMessageId, b"foreign-1\0".to_vec())
        .tlv(TlvTag::MessageStateTlv, [2])
        .send()
        .await;
    assert!(receipt.is_ok());
    let expected = DeliveryReport {
        provider: "smpp",
        message: Reported::Reference("foreign-1".to_owned()),
        delivery: Delivery::Delivered,
    };
    assert_eq!(*reports.0.lock().unwrap(), [expected]);

    smpp.stop().await;
    assert_eq!(*smsc.unbinds.borrow(), 1);
    server.stop().await;
}
