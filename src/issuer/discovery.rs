//! An issuer's configuration document (OpenID Connect Discovery 1.0 section 3): whose it is, and the members that somebody
//! here needs. Used by `ring`, which wants the keys' address, and `endpoints`.

use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};

use super::FetchError;

#[derive(Deserialize)]
struct Named {
    issuer: String,
}

/// The members that `T` names, out of the document at `document`, if it is this issuer's own (section 4.3). `needs` says in
/// words which members have to be there, `issuer` among them; one that stands twice is an error.
pub(super) fn read<T: DeserializeOwned>(
    body: &[u8],
    document: &Url,
    issuer: &str,
    needs: &str,
) -> Result<T, FetchError> {
    let bad = |problem: String| FetchError::Content { url: document.to_string(), problem };
    let shape = |_| bad(format!("it is not a JSON object with {needs}, each once"));
    let Named { issuer: found } = serde_json::from_slice(body).map_err(shape)?;
    if found != issuer {
        let found: String = found.chars().take(100).collect();
        return Err(bad(format!("its issuer is {found:?}, not {issuer:?}")));
    }
    serde_json::from_slice(body).map_err(shape)
}
