use super::*;

fn place(url: &str) -> Place {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-1").unwrap();
    Place::new(url, "m".into(), ApiKey::File(file)).unwrap()
}

#[test]
fn retry_after_is_seconds_milliseconds_or_a_date() {
    let after = |name: &'static str, value: &str| {
        let headers: HeaderMap = [(name.parse().unwrap(), value.parse().unwrap())].into_iter().collect();
        retry_after(&headers)
    };
    assert_eq!(after("retry-after", "2"), Some(Duration::from_secs(2)));
    assert_eq!(after("retry-after-ms", "250"), Some(Duration::from_millis(250)));
    let in_a_minute = std::time::SystemTime::now() + Duration::from_secs(60);
    let date = after("retry-after", &httpdate::fmt_http_date(in_a_minute)).unwrap();
    assert!((50..=60).contains(&date.as_secs()), "{date:?}");
    assert_eq!(after("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "long ago");
    assert_eq!(after("retry-after", "soon"), None);
    // A server whose clock, or ours, is years off.
    let headers = [("date", "Wed, 21 Oct 2015 07:27:30 GMT"), ("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")];
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    assert_eq!(retry_after(&headers.into_iter().collect()), Some(Duration::from_secs(30)));
}

#[test]
fn an_excerpt_that_repeats_the_key_does_not_show_it() {
    let place = place("https://api.example.com/v1");
    let body = b"<p>Authorization: Bearer sk-1</p>";
    for error in [place.unreadable(body, "no JSON"), place.no_batches("no JSON", body)] {
        let told = &error.message;
        assert!(told.contains("Bearer [redacted]</p>") && !told.contains("sk-1"), "{told}");
    }
    assert_eq!(*place.without_key(body), body[..], "so short a key is no secret");
}

#[test]
fn what_a_firewall_blocks_costs_nothing_and_stops_no_other_request() {
    let place = place("https://api.example.com/v1");
    let blocked = place.refused(403, None, b"<html>\r\n<head><title>403 Forbidden</title></head>\r\n</html>", None);
    assert_eq!(blocked.kind, ErrorKind::Blocked);
    assert!(!blocked.is_fatal() && !blocked.condemns_endpoint() && !blocked.may_be_charged(), "{blocked:?}");
    for part in ["HTTP 403: a page in HTML, `403 Forbidden`", "all from this address", "no API is at this URL"] {
        assert!(blocked.message.contains(part), "{blocked}");
    }
    for (status, body) in
        [(401, "<html></html>"), (403, "{\"error\": \"<html> is no key\"}"), (403, "<Error>AccessDenied</Error>")]
    {
        let error = place.refused(status, None, body.as_bytes(), None);
        assert!(error.kind == ErrorKind::Unauthorized && error.is_fatal(), "{error:?}");
    }
    let filtered = place.refused(400, None, br#"{"error": {"code": "content_filter"}}"#, None);
    assert!(filtered.kind == ErrorKind::Refused && filtered.may_be_charged(), "{filtered:?}");
}

#[test]
fn an_azure_url_keeps_its_version_and_has_a_header_of_its_own() {
    let azure = place("https://me.openai.azure.com/openai/deployments/gpt?api-version=2026-01-01");
    let completions = "https://me.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2026-01-01";
    assert_eq!(azure.url("chat/completions"), completions);
    assert_eq!(azure.key_header(), Some(("api-key", "sk-1".to_owned())));
    let pasted = place(completions);
    assert_eq!(pasted.url("chat/completions"), completions);
    let files = "https://me.openai.azure.com/openai/files?api-version=2026-01-01";
    assert_eq!((azure.batch_url("files", ""), azure.batch_model()), (files.to_owned(), "gpt"));
    assert_eq!(azure.batch_url("files", "limit=2"), format!("{files}&limit=2"));
    let plain = place("https://api.example.com/v1/");
    assert_eq!(plain.batch_url("batches", "limit=2"), "https://api.example.com/v1/batches?limit=2");
    assert_eq!(plain.url("chat/completions"), "https://api.example.com/v1/chat/completions");
    assert_eq!(plain.key_header(), Some(("authorization", "Bearer sk-1".to_owned())));
}

#[test]
fn a_password_in_the_address_is_used_and_not_shown() {
    let url = "https://me:sesame-4711@api.example.com/v1?key=x";
    let place = place(url).with_login_of(&crate::http::builder("http:").build().unwrap());
    assert_eq!(place.url("models"), "https://me:sesame-4711@api.example.com/v1/models?key=x");
    assert_eq!((&*place.name, place.batch_name()), ("https://api.example.com/v1", "https://api.example.com/v1"));
    let told = place.refused(401, None, b"{\"error\": \"me:sesame-4711 is not known\"}", None).message;
    assert!(told.contains("at https://api.example.com/v1") && told.contains("me:[redacted] is not known"), "{told}");
    // As it is sent, in base64.
    let body = br#"{"heard": "Basic bWU6c2VzYW1lLTQ3MTE=", "of": "sesame-4711"}"#;
    assert_eq!(*place.without_key(body), br#"{"heard": "Basic [redacted]", "of": "[redacted]"}"#[..]);
}

#[test]
fn what_is_no_url_is_shown_without_what_may_be_a_password() {
    for (url, shown) in [
        ("me:sesame-4711@example.com/v1", "`example.com/v1`"),
        ("https://me:ses/ame@4711@example.com/v1", "`https://example.com/v1`"),
        ("ftp://me:ses?ame-4711@example.com/v1?key=x", "`ftp://example.com/v1`"),
        ("localhost:80?key=x", "`localhost:80`"),
    ] {
        let Err(error) = Place::new(url, "m".into(), ApiKey::None) else { panic!("{url}") };
        assert!(error.message.starts_with(&format!("{shown} is no http(s) URL")), "{error}");
    }
}
