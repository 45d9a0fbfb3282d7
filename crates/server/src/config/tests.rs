use vestibule_domain::PhoneNumber;
use vestibule_domain::spending::{Budget, Ceiling, Money};

use super::*;

/// The configuration of a file with this text. Variables are the process's own, of which tests set none.
fn load(text: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path)).map_err(|error| error.to_string())
}

#[test]
fn nothing_needs_to_be_set_in_development() {
    let config = load("").unwrap();
    assert_eq!(config.public_url(), "http://127.0.0.1:8080");
    let database = config.database().unwrap();
    assert!(matches!(database, DatabaseKind::Sqlite(path) if path == Path::new("data/vestibule.db")));
    assert!(config.uses_inbox());
}

#[test]
fn a_list_is_a_list_or_a_text_with_commas() {
    for text in [
        "[registration]\nblocked_phone_countries = ['GB', 'de']",
        "[registration]\nblocked_phone_countries = 'GB, de'",
    ] {
        assert_eq!(load(text).unwrap().registration.blocked_phone_countries, ["GB", "de"]);
    }
    let config = load("[http]\ntrusted_proxies = ['10.0.0.0/8']").unwrap();
    assert_eq!(config.http.trusted_proxies.unwrap().len(), 1);
    let config = load("[http]\ntrusted_proxies = '10.0.0.1, 2001:db8::/32'").unwrap();
    let networks = config.http.trusted_proxies.unwrap();
    assert_eq!(
        networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.1/32", "2001:db8::/32"]
    );
}

#[test]
fn a_country_may_have_an_order_of_its_own() {
    let twilio = "twilio = { account_sid = 'AC1', auth_token = 'x', from = '+15005550006' }";
    let config =
        load(&format!("[sms]\n{twilio}\n[sms.countries]\nde = 'twilio, inbox'\nGBR = ['twilio']")).unwrap();
    let orders = config.sms.country_orders().unwrap();
    let order = |code: &str| orders[&Country::parse(code).unwrap()];
    assert_eq!(order("DE"), [SmsProvider::Twilio, SmsProvider::Inbox]);
    assert_eq!(order("GB"), [SmsProvider::Twilio]);
}

fn budget(text: &str) -> Budget {
    let config = load(text).unwrap();
    config.spending.budget(&config.sms).unwrap()
}

#[test]
fn money_is_a_number_or_a_text() {
    let text = "[spending]\nper_hour = 12\nper_day = 100.5\nprices = { DEU = '0.0079', gb = 0.04 }
        [spending.countries]\nDE = { per_day = '7' }";
    let budget = budget(text);
    let money = |text: &str| Some(Money::parse(text).unwrap());
    assert_eq!(budget.all, Ceiling { hour: money("12"), day: money("100.5") });
    let germany = Country::parse("DE").unwrap();
    assert_eq!(budget.countries[&germany], Ceiling { hour: None, day: money("7") });
    let price = |code: &str| budget.prices.countries.get(&Country::parse(code).unwrap()).copied();
    assert_eq!([price("DE"), price("GB")], [money("0.0079"), money("0.04")]);
    assert!(price("US").is_some(), "the shipped prices stay");
}

const TWO_PROVIDERS: &str = "[sms]
    providers = 'twilio, webhook'
    twilio = { account_sid = 'AC1', auth_token = 'x', from = '+15005550006' }
    webhook = { url = 'https://x', secrets = 'x' }
    countries.FR = 'webhook'\n";

#[test]
fn a_provider_has_its_own_prices_and_else_the_general_ones() {
    let text = "[spending]\nprices = { DE = 0.1, FR = 0.2 }\ndefault_price = 0.5
        [spending.providers.twilio]\nprices = { deu = '0.3' }
        [spending.providers.webhook]\ndefault_price = 0.01\nprices = { DE = 0.02 }\nper_day = 7";
    let budget = budget(&format!("{TWO_PROVIDERS}{text}"));
    let to = |number| PhoneNumber::parse(number).unwrap();
    let (germany, france, chad) = (to("+4915112345678"), to("+33612345678"), to("+23563012345"));
    let money = |text: &str| Money::parse(text).unwrap();
    let price = |name: &str, to: &PhoneNumber| budget.providers[name].prices.of(to);
    let twilio = [&germany, &france, &chad].map(|to| price("twilio", to));
    assert_eq!(twilio, ["0.3", "0.2", "0.5"].map(money));
    let webhook = [&germany, &france, &chad].map(|to| price("webhook", to));
    assert_eq!(webhook, ["0.02", "0.01", "0.01"].map(money));
    let at_most = [&germany, &france, &chad].map(|to| budget.prices.of(to));
    assert_eq!(at_most, ["0.3", "0.01", "0.5"].map(money), "only the webhook carries messages to France");
    assert_eq!(budget.providers["webhook"].ceiling, Ceiling { hour: None, day: Some(money("7")) });
    assert_eq!(budget.providers.len(), 2);
}

#[test]
fn a_provider_that_is_not_in_use_may_keep_its_table() {
    let config = load("[spending.providers]\nsmpp = { per_day = 1 }\ninbox = { per_day = 2 }").unwrap();
    assert_eq!(config.spending.unused_providers(&config.sms).collect::<Vec<_>>(), ["smpp"]);
    let budget = config.spending.budget(&config.sms).unwrap();
    assert_eq!(budget.providers.keys().collect::<Vec<_>>(), ["inbox"]);
}

#[test]
fn a_partner_speaks_in_its_own_name_unless_it_has_a_brand() {
    let text = "[partners.acme]\nname = 'Acme Pay'\nphone_countries = 'GB, de'\nsignup_per_hour = 5
        [partners.Bolt_2]\nname = 'Bolt Financial Services and Sons Limited'\nbrand = 'Bölt & Co.'\nsecrets = 'hush-hush-hush-hush-hush-hush-hush, hush-hush-hush-hush-hush-hush-hash'";
    let config = load(text).unwrap();
    assert_eq!(config.partners["acme"].brand(), "Acme Pay");
    assert_eq!(config.partners["acme"].phone_countries, ["GB", "de"]);
    assert_eq!(config.partners["Bolt_2"].brand(), "Bölt & Co.");
    assert_eq!(config.partners["Bolt_2"].secrets.as_ref().unwrap().len(), 2);
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn an_error_names_the_key_and_not_a_secret() {
    for (text, key) in [
        ("[http]\nlistn = '127.0.0.1:1'", "listn"),
        ("[htp]\nlisten = '127.0.0.1:1'", "htp"),
        ("[http]\nlisten = 'localhost:1'", "http.listen: must be an address and a port, as `127.0.0.1:8080`"),
        ("[http]\nlisten = 8081", "http.listen: must be an address and a port, as `127.0.0.1:8080`"),
        (
            "[http]\ntrusted_proxies = ['everyone']",
            "http.trusted_proxies: must be networks or addresses, as `10.0.0.0/8`",
        ),
        ("[http]\npublic_url = 'ftp://x'", "http.public_url"),
        (
            "environment = 'staging'",
            "environment: unknown variant `staging`, expected `development` or `production`",
        ),
        (
            "[email]\ntransport = 'smtp'\nsmtp = { url = 'smtp://mail.example.com' }",
            "email.from: is needed, since `email.transport` is smtp: whose mails they are",
        ),
        ("[registration]\ncode_length = 3", "registration.code_length"),
        ("[registration]\ncode_length = 'six'", "registration.code_length"),
        ("[registration]\ncode_ttl_seconds = 0", "registration.code_ttl_seconds"),
        ("[registration]\nblocked_phone_countries = ['XX']", "registration.blocked_phone_countries"),
        ("[registration]\nblocked_ip_countries = ['GB']", "registration.ip_country_database"),
        ("[registration]\nallowed_ip_countries = ['GB']", "registration.ip_country_database"),
        ("[registration]\nallowed_phone_countries = ['UK']", "registration.allowed_phone_countries"),
        (
            "[registration]\nallowed_phone_countries = ['GB']\nblocked_phone_countries = ['gbr']",
            "registration.allowed_phone_countries: GB is allowed and blocked, see `registration.blocked_phone_countries`",
        ),
        (
            "[registration]\nip_country_database = 'x'\nallowed_ip_countries = 'GB'\nblocked_ip_countries = 'GB'",
            "registration.allowed_ip_countries: GB is allowed and blocked, see `registration.blocked_ip_countries`",
        ),
        ("[registration]\nunknown_ip_country = 'deny'", "registration.unknown_ip_country"),
        (
            "[registration]\nunknown_ip_country = 'refuse'",
            "registration.unknown_ip_country: `refuse` needs `registration.ip_country_database`",
        ),
        ("[password]\nmin_strength = 5", "password.min_strength"),
        ("[sms]\nproviders = ['pigeon']", "sms.providers"),
        ("[sms]\nproviders = ['twilio']", "sms.twilio"),
        ("[sms]\nproviders = ['inbox', 'inbox']", "sms.providers"),
        ("[sms.countries]\nDE = ['pigeon']", "sms.countries.DE"),
        ("[sms.countries]\nXX = ['inbox']", "sms.countries: `XX`"),
        ("[sms.countries]\nDE = []", "sms.countries: DE"),
        ("[sms.countries]\nDE = ['inbox']\nDEU = ['inbox']", "sms.countries: DE"),
        ("[sms.countries]\nDE = ['twilio']", "sms.twilio"),
        ("[sms]\nproviders = ['webhook']", "sms.webhook"),
        ("[sms]\nproviders = ['smpp']", "sms.smpp"),
        ("[sms.webhook]\nurl = 'https://x'", "sms.webhook"),
        ("[sms.smpp]\nurl = ['smpp://user:hush@host']", "sms.smpp"),
        (
            "[sms.smpp]\nurl = 'smpp://user:hush@host'\nfrom = '123'\nreceipt_ids = 'hex'",
            "sms.smpp.receipt_ids: unknown variant `hex`, expected `as_given` or `decimal`",
        ),
        ("[sms.twilio]\nauth_token = 'hush-hush'", "sms.twilio"),
        ("[sms.twilio]\nauth_token = ['hush-hush']", "sms.twilio"),
        ("[sms.twilio]\nauth_token = \"hush-hush", "line 2, column"),
        ("[sms.twilio]\nauth_token = hush-hush\nfrom = ''", "line 2, column"),
        ("[email.smtp]\nurl = 'smtp://user:hush|hush@mail.example.com", "line 2, column"),
        ("[hashing]\nmemory_kib = 7", "hashing.memory_kib"),
        ("[spending]\nper_day = -1", "spending.per_day"),
        ("[spending]\nper_day = 'much'", "spending.per_day"),
        ("[spending]\nreserve_percent = 100", "spending.reserve_percent"),
        ("[spending.prices]\nXX = 1", "spending.prices: `XX`"),
        ("[spending.countries]\nDE = { per_day = 1 }\nDEU = { per_day = 2 }", "spending.countries: DE"),
        ("[spending.countries.DE]\nper_week = 1", "per_week"),
        ("[spending.providers.pigeon]\nper_day = 1", "spending.providers: `pigeon`"),
        ("[spending.providers.inbox]\nper_week = 1", "spending.providers.inbox.per_week"),
        ("[spending.providers.inbox]\nper_day = 'much'", "spending.providers.inbox.per_day"),
        ("[spending.providers.smpp.prices]\nXX = 1", "spending.providers: `prices`: `XX`"),
        ("[guard]\nmin_confirmed_percent = 0", "guard.min_confirmed_percent"),
        ("[guard]\nunconfirmed_per_range = 0", "guard.unconfirmed_per_range"),
        ("[guard]\nunconfirmed_per_country = 199", "guard.unconfirmed_per_country"),
        ("[guard]\nforget_hours = 721", "guard.forget_hours"),
        ("[guard.countries.DE]\nunconfirmed = 199", "guard.countries: `DE`"),
        ("[guard.countries.XX]\nunconfirmed = 200", "guard.countries: `XX`"),
        ("[hashing]\niterations = 17", "hashing.iterations"),
        ("[email]\ntransport = 'smtp'", "email.smtp.url"),
        ("[http]\nlisten = '0.0.0.0:8080'", "http.listen"),
        ("[http]\nrequire_merchant = true", "http.require_merchant"),
        ("[http]\ndrain_seconds = 301", "http.drain_seconds"),
        ("[partners.'a.b']\nname = 'A'", "partners: `a.b`"),
        ("[partners.acme]\nbrand = 'A'", "partners.acme.name"),
        ("[partners.acme]\nname = 'A'\nsecret = 'hush'", "partners.acme.secret"),
        ("[partners.acme]\nname = ''", "partners: `acme`: its `brand`"),
        ("[partners.acme]\nname = 'A'\nbrand = 'A\\nB'", "partners: `acme`: its `brand`"),
        ("[partners.acme]\nname = 'A'\nsecrets = ['hush-hush']", "partners: `acme`: each of its `secrets`"),
        ("[partners.acme]\nname = 'A'\nsecrets = ''", "partners: `acme`: its `secrets`"),
        ("[partners.acme]\nname = 'A'\nphone_countries = ['XX']", "partners: `phone_countries`: `XX`"),
        ("[partners.acme]\nname = 'A'\nsignup_per_hour = 0", "partners.acme.signup_per_hour"),
    ] {
        let error = load(text).expect_err(text);
        assert!(error.contains(key), "{text}: {error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn a_word_that_is_none_of_a_few_is_told_them() {
    for (text, told) in [
        (
            "[guard]\nmode = 'on'",
            "guard.mode: unknown variant `on`, expected one of `off`, `observe`, `enforce`",
        ),
        ("[guard]\nmode = 5", "guard.mode: unknown variant `5`, expected one of `off`, `observe`, `enforce`"),
        (
            "[sms]\nproviders = 'pigeon'",
            "sms.providers: unknown variant `pigeon`, expected one of `inbox`, `twilio`",
        ),
        ("[sms]\nproviders = ['inbox', 'pigeon']", "sms.providers: unknown variant `pigeon`"),
    ] {
        let error = load(text).expect_err(text);
        assert!(error.starts_with(told) && !error.contains(" for key"), "{text}: {error}");
    }
}

const PRODUCTION: &str = "environment = 'production'
[http]
public_url = 'https://id.example.com'
listen = '0.0.0.0:8080'
trusted_proxies = []
[sms]
providers = ['twilio']
twilio = { account_sid = 'AC1', auth_token = 'x', from = '+15005550006' }
[email]
transport = 'smtp'
from = 'Example <no-reply@example.com>'
smtp = { url = 'smtps://mail.example.com' }
";

#[test]
fn production_leaves_nothing_to_chance() {
    load(PRODUCTION).unwrap();
    for (line, key) in [
        ("public_url = 'https://id.example.com'\n", "http.public_url"),
        ("trusted_proxies = []\n", "http.trusted_proxies"),
        ("providers = ['twilio']\n", "sms.providers"),
        ("transport = 'smtp'\n", "email.transport"),
    ] {
        // On a loopback address too: there the inbox is refused for no other reason.
        let text = PRODUCTION.replace(line, "").replace("0.0.0.0", "127.0.0.1");
        let error = load(&text).expect_err(key);
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn a_variable_with_too_few_underscores_is_noticed_and_none_of_others() {
    let names = [
        "VESTIBULE_DATABASE_URL",
        "VESTIBULE_ENVIRONMENT",
        "VESTIBULE_REPORT_DAYS",
        "VESTIBULE__HTTP__LISTEN",
        "VESTIBULE_TEST_DATABASE_URL",
        "VESTIBULE_SERVICE_HOST",
        "VESTIBULE_ADMIN_SERVICE_PORT_HTTP",
        "VESTIBULE_PORT",
        "VESTIBULE_HTTP_PORT_8080_TCP_ADDR",
        "VESTIBULES",
        "PATH",
    ];
    let misnamed: Vec<_> = super::misnamed(names.into_iter().map(Into::into)).collect();
    assert_eq!(misnamed, names[..3]);
}
