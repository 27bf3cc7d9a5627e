//! What the gateway itself says to sign in at another mail server: one message for each mechanism, as base64 on the wire.
//! Called by `upstream`.

use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use super::Mechanism;
use crate::model::Secret;

/// The message of an OAuth mechanism, for the mailbox of `owner` (RFC 7628 section 3.1; for XOAUTH2 the Gmail IMAP
/// documentation).
pub fn bearer(mechanism: Mechanism, owner: &str, token: &Secret) -> Secret {
    let token = token.reveal();
    encoded(match mechanism {
        Mechanism::Xoauth2 => format!("user={owner}\x01auth=Bearer {token}\x01\x01"),
        Mechanism::OauthBearer => format!("n,a={},\x01auth=Bearer {token}\x01\x01", saslname(owner)),
    })
}

/// PLAIN (RFC 4616): `user` signs in with a password, for the mailbox of `owner`.
pub fn plain(owner: &str, user: &str, password: &Secret) -> Secret {
    encoded(format!("{owner}\0{user}\0{}", password.reveal()))
}

/// EXTERNAL (RFC 4422 appendix A): the TLS certificate signs in, for the mailbox of `owner`.
pub fn external(owner: &str) -> Secret {
    encoded(owner.to_owned())
}

/// What answers the error challenge of an OAuth mechanism, base64 (RFC 7628 section 3.2.3; XOAUTH2 has an empty line).
pub fn dismissal(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Xoauth2 => "",
        Mechanism::OauthBearer => "AQ==",
    }
}

fn encoded(message: String) -> Secret {
    Secret::new(STANDARD.encode(Zeroizing::new(message).as_bytes()))
}

/// A name in a GS2 header (RFC 5801 section 4).
fn saslname(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::sasl::parse;

    fn text(secret: &Secret) -> String {
        String::from_utf8(STANDARD.decode(secret.reveal()).unwrap()).unwrap()
    }

    #[test]
    fn what_we_say_is_what_we_would_understand() {
        let token = Secret::new("ey.to.ken");
        for mechanism in Mechanism::ALL {
            let said = bearer(mechanism, "ann@example.com", &token);
            let heard = parse(mechanism, said.reveal().as_bytes()).unwrap();
            assert_eq!((heard.user.as_deref(), heard.token.reveal()), (Some("ann@example.com"), "ey.to.ken"));
        }
    }

    #[test]
    fn each_mechanism_has_its_own_words() {
        let token = Secret::new("t");
        assert_eq!(
            text(&bearer(Mechanism::OauthBearer, "a=b,c@x", &token)),
            "n,a=a=3Db=2Cc@x,\x01auth=Bearer t\x01\x01"
        );
        assert_eq!(text(&plain("ann@x", "gate", &Secret::new("p w"))), "ann@x\0gate\0p w");
        assert_eq!(text(&external("ann@x")), "ann@x");
    }
}
