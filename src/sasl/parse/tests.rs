//! What the parser promises: one meaning for each response, nothing else accepted, nothing unbounded.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn encoded(text: &str) -> Vec<u8> {
    STANDARD.encode(text).into_bytes()
}

fn read(mechanism: Mechanism, text: &str) -> Result<(Option<String>, String), SaslError> {
    let bearer = parse(mechanism, &encoded(text))?;
    Ok((bearer.user.clone(), bearer.token.reveal().to_owned()))
}

#[test]
fn the_examples_of_google_and_of_rfc_7628_are_understood() {
    let google = b"dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl0Q2cBAQ==";
    let bearer = parse(Mechanism::Xoauth2, google).unwrap();
    assert_eq!(bearer.user.as_deref(), Some("someuser@example.com"));
    assert_eq!(bearer.token.reveal(), "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg");

    let rfc = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
    let expected = (Some("user@example.com".to_owned()), "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==".to_owned());
    assert_eq!(read(Mechanism::OauthBearer, rfc), Ok(expected));
}

#[test]
fn xoauth2_takes_its_two_fields_once_each_with_both_end_markers() {
    use SaslError::*;
    let good = Ok((Some("ann@example.com".to_owned()), "abc".to_owned()));
    let cases = [
        ("plain", "user=ann@example.com\x01auth=Bearer abc\x01\x01", good.clone()),
        ("other order", "auth=Bearer abc\x01user=ann@example.com\x01\x01", good.clone()),
        ("scheme in lower case", "user=ann@example.com\x01auth=bearer abc\x01\x01", good.clone()),
        ("more spaces", "user=ann@example.com\x01auth=Bearer  abc\x01\x01", good.clone()),
        ("unknown key", "user=ann@example.com\x01vendor=x=y\x01auth=Bearer abc\x01\x01", good),
        ("one end marker", "user=ann@example.com\x01auth=Bearer abc\x01", Err(EndMarker)),
        ("no end marker", "user=ann@example.com\x01auth=Bearer abc", Err(EndMarker)),
        ("three end markers", "user=ann@example.com\x01auth=Bearer abc\x01\x01\x01", Err(EndMarker)),
        ("bytes behind the end", "user=a@b\x01auth=Bearer abc\x01\x01x", Err(EndMarker)),
        ("empty field", "user=a@b\x01\x01auth=Bearer abc\x01\x01", Err(EndMarker)),
        ("user twice", "user=a@b\x01user=a@b\x01auth=Bearer abc\x01\x01", Err(Duplicate)),
        ("auth twice", "user=a@b\x01auth=Bearer abc\x01auth=Bearer abd\x01\x01", Err(Duplicate)),
        ("auth twice in other case", "user=a@b\x01auth=Bearer abc\x01AUTH=Bearer abd\x01\x01", Err(Duplicate)),
        ("no user", "auth=Bearer abc\x01\x01", Err(NoUser)),
        ("empty user", "user=\x01auth=Bearer abc\x01\x01", Err(NoUser)),
        ("no auth", "user=a@b\x01\x01", Err(NoAuth)),
        ("another scheme", "user=a@b\x01auth=Basic abc\x01\x01", Err(NotBearer)),
        ("no scheme", "user=a@b\x01auth=abc\x01\x01", Err(NotBearer)),
        ("no token", "user=a@b\x01auth=Bearer \x01\x01", Err(NotBearer)),
        ("two tokens", "user=a@b\x01auth=Bearer abc abd\x01\x01", Err(NotBearer)),
        ("token of padding", "user=a@b\x01auth=Bearer ==\x01\x01", Err(NotBearer)),
        ("token with an equals sign inside", "user=a@b\x01auth=Bearer a=b\x01\x01", Err(NotBearer)),
        ("token with a line end", "user=a@b\x01auth=Bearer abc\r\n\x01\x01", Err(NotBearer)),
        ("token with an umlaut", "user=a@b\x01auth=Bearer äbc\x01\x01", Err(NotBearer)),
        ("field without a key", "user=a@b\x01=x\x01auth=Bearer abc\x01\x01", Err(Field)),
        ("field without a value sign", "user=a@b\x01x\x01auth=Bearer abc\x01\x01", Err(Field)),
        ("NUL", "user=a@b\0\x01auth=Bearer abc\x01\x01", Err(Text)),
        ("a password", "\0ann\0secret", Err(Text)),
        ("OAUTHBEARER's form", "n,a=a@b,\x01auth=Bearer abc\x01\x01", Err(Field)),
    ];
    for (name, text, expected) in cases {
        assert_eq!(read(Mechanism::Xoauth2, text), expected, "{name}");
    }
}

#[test]
fn oauthbearer_takes_its_gs2_header_to_the_letter_and_its_fields_with_patience() {
    use SaslError::*;
    let token = || "abc".to_owned();
    let user = |name: &str| Ok((Some(name.to_owned()), token()));
    let cases = [
        ("no authzid", "n,,\x01auth=Bearer abc\x01\x01", Ok((None, token()))),
        ("y flag", "y,a=a@b,\x01auth=Bearer abc\x01\x01", user("a@b")),
        ("host and port", "n,a=a@b,\x01host=relay\x01port=1\x01auth=Bearer abc\x01\x01", user("a@b")),
        ("port that is no number", "n,a=a@b,\x01port=imaps\x01auth=Bearer abc\x01\x01", user("a@b")),
        ("escapes", "n,a=x=2Cy=3Dz@b,\x01auth=Bearer abc\x01\x01", user("x,y=z@b")),
        ("user= is only another key", "n,a=a@b,\x01user=eve@b\x01auth=Bearer abc\x01\x01", user("a@b")),
        ("escape in lower case", "n,a=x=2cy@b,\x01auth=Bearer abc\x01\x01", Err(Escape)),
        ("unknown escape", "n,a=x=41y@b,\x01auth=Bearer abc\x01\x01", Err(Escape)),
        ("bare equals sign", "n,a=x=@b,\x01auth=Bearer abc\x01\x01", Err(Escape)),
        ("channel binding", "p=tls-exporter,a=a@b,\x01auth=Bearer abc\x01\x01", Err(ChannelBinding)),
        ("another flag", "x,a=a@b,\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("nonstandard flag", "F,n,a=a@b,\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("empty authzid", "n,a=,\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("authzid without a=", "n,a@b,\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("no second comma", "n,a=a@b\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("comma unescaped", "n,a=x,y@b,\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("separator in the authzid", "n,a=a\x01b,\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("no first separator", "n,,auth=Bearer abc\x01\x01", Err(Gs2Header)),
        ("one end marker", "n,,\x01auth=Bearer abc\x01", Err(EndMarker)),
        ("host twice", "n,,\x01host=a\x01host=b\x01auth=Bearer abc\x01\x01", Err(Duplicate)),
        ("no fields", "n,,\x01\x01", Err(EndMarker)),
        ("XOAUTH2's form", "user=a@b\x01auth=Bearer abc\x01\x01", Err(Gs2Header)),
    ];
    for (name, text, expected) in cases {
        assert_eq!(read(Mechanism::OauthBearer, text), expected, "{name}");
    }
}

#[test]
fn base64_is_strict_and_the_empty_forms_and_the_star_have_their_own_answers() {
    let good = encoded("user=ann@example.com\x01auth=Bearer abcde\x01\x01");
    assert!(parse(Mechanism::Xoauth2, &good).is_ok());
    let text = String::from_utf8(good).unwrap();
    assert!(text.ends_with('='), "the case wants padding: {text}");
    for (name, wire, expected) in [
        ("star", "*".to_owned(), SaslError::Cancelled),
        ("nothing", String::new(), SaslError::Empty),
        ("equals sign", "=".to_owned(), SaslError::Empty),
        ("the answer to a failure", "AQ==".to_owned(), SaslError::Empty),
        ("no padding", text.trim_end_matches('=').to_owned(), SaslError::Base64),
        ("too much padding", format!("{text}="), SaslError::Base64),
        ("white space", format!("{} {}", &text[..8], &text[8..]), SaslError::Base64),
        ("line end", format!("{text}\r\n"), SaslError::Base64),
        ("url alphabet", "_-_-".to_owned(), SaslError::Base64),
        ("stray bits", "AR==".to_owned(), SaslError::Base64),
        ("not UTF-8", STANDARD.encode(b"user=\xff\x01auth=Bearer a\x01\x01"), SaslError::Text),
    ] {
        for mechanism in Mechanism::ALL {
            assert_eq!(parse(mechanism, wire.as_bytes()), Err(expected), "{name}");
        }
    }
}

#[test]
fn a_token_of_the_limit_passes_and_one_byte_more_does_not() {
    let with = |token: usize, filler: usize| {
        let (token, filler) = ("a".repeat(token), "f".repeat(filler));
        parse(Mechanism::Xoauth2, &encoded(&format!("user=a@b\x01x={filler}\x01auth=Bearer {token}\x01\x01")))
    };
    assert!(with(MAX_TOKEN, 0).is_ok());
    assert!(matches!(with(MAX_TOKEN + 1, 0), Err(SaslError::TooLong { what: "a token", .. })));
    let around = "user=a@b\x01x=\x01auth=Bearer a\x01\x01".len();
    assert!(with(1, MAX_RESPONSE - around).is_ok());
    assert!(matches!(with(1, MAX_RESPONSE - around + 1), Err(SaslError::TooLong { what: "a response", .. })));
    let user = |length: usize| {
        let user = "u".repeat(length);
        parse(Mechanism::OauthBearer, &encoded(&format!("n,a={user},\x01auth=Bearer a\x01\x01")))
    };
    assert!(user(MAX_USER).is_ok());
    assert!(matches!(user(MAX_USER + 1), Err(SaslError::TooLong { what: "a user name", .. })));
    let fields = |count: usize| {
        let more: String = (2..count).map(|n| format!("k{n}=v\x01")).collect();
        parse(Mechanism::Xoauth2, &encoded(&format!("user=a@b\x01{more}auth=Bearer a\x01\x01")))
    };
    assert!(fields(MAX_FIELDS).is_ok());
    assert!(matches!(fields(MAX_FIELDS + 1), Err(SaslError::TooLong { .. })));
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9=,.+äß]{1,40}@[a-z0-9.]{1,40}"
}

proptest! {
    #[test]
    fn what_is_written_by_the_rules_is_read_back_unchanged(user in name(), token in "[A-Za-z0-9._~+/-]{1,900}={0,3}") {
        let xoauth2 = format!("user={user}\x01auth=Bearer {token}\x01\x01");
        prop_assert_eq!(read(Mechanism::Xoauth2, &xoauth2), Ok((Some(user.clone()), token.clone())));
        let escaped = user.replace('=', "=3D").replace(',', "=2C");
        let bearer = format!("n,a={escaped},\x01host=h\x01port=993\x01auth=Bearer {token}\x01\x01");
        prop_assert_eq!(read(Mechanism::OauthBearer, &bearer), Ok((Some(user), token)));
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for mechanism in Mechanism::ALL {
            let _ = parse(mechanism, &bytes);
            let _ = parse(mechanism, STANDARD.encode(&bytes).as_bytes());
        }
    }

    #[test]
    fn a_good_response_with_any_byte_taken_out_never_yields_another_token(cut in 0usize..200) {
        let text = "n,a=ann@example.com,\x01host=mail\x01auth=Bearer abcdef.ghi\x01\x01";
        if let Some((at, _)) = text.char_indices().nth(cut) {
            let mutant: String = text.char_indices().filter(|(i, _)| *i != at).map(|(_, c)| c).collect();
            if let Ok((_, token)) = read(Mechanism::OauthBearer, &mutant) {
                let inside = text.find("abcdef.ghi").unwrap();
                prop_assert!(token == "abcdef.ghi" || (inside..inside + 10).contains(&at), "{}", token);
            }
        }
    }
}
