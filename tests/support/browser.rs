//! A small browser that plays a person's: cookies, redirects, and the forms of an OpenID provider.

use std::{collections::BTreeMap, time::Duration};

use reqwest::{Method, StatusCode, Url, header::HeaderMap};

use super::{Gate, provider::Provider};

/// What a page or the API answered.
#[derive(Debug)]
pub struct Shown {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Shown {
    pub fn location(&self) -> Option<&str> {
        self.headers.get("location").map(|to| to.to_str().unwrap())
    }

    /// The value of `name="..." value="..."`, or of an attribute.
    pub fn after(&self, mark: &str) -> Option<String> {
        let rest = self.text.split_once(mark)?.1;
        Some(rest.split_once('"')?.0.replace("&#38;", "&").replace("&amp;", "&"))
    }

    pub fn word(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}", self.text));
        json["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
    }
}

/// A browser with cookies and no other cleverness.
pub struct Browser {
    pub gateway: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    /// By name; each with whether it is `SameSite=Strict`.
    pub cookies: BTreeMap<String, (String, bool)>,
}

impl Browser {
    pub fn new(gate: &Gate) -> Self {
        Self::by(gate, "http")
    }

    pub fn by(gate: &Gate, scheme: &str) -> Self {
        let port = gate.listening.iter().find(|(name, _)| name == "http").unwrap().1.port();
        let authority = reqwest::Certificate::from_der(gate.ca_der()).unwrap();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let client = client.add_root_certificate(authority);
        Self {
            gateway: format!("{scheme}://localhost:{port}"),
            client: client.timeout(Duration::from_secs(20)).build().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            cookies: BTreeMap::new(),
        }
    }

    pub fn send(
        &mut self,
        method: Method,
        url: &Url,
        form: Option<&[(&str, &str)]>,
        headers: &[(&str, &str)],
        from_elsewhere: bool,
    ) -> Shown {
        let sent = self.cookies.iter().filter(|(_, (_, strict))| !(*strict && from_elsewhere));
        let cookie = sent.map(|(name, (value, _))| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut request = self.client.request(method, url.clone()).header("cookie", cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(form) = form {
            request = request.form(form);
        }
        let shown = self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let (status, headers) = (answer.status(), answer.headers().clone());
            Shown { status, headers, text: answer.text().await.unwrap() }
        });
        for line in shown.headers.get_all("set-cookie") {
            let line = line.to_str().unwrap();
            let (name, rest) = line.split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            let lower = line.to_lowercase();
            if value.is_empty() || lower.contains("max-age=0") || lower.contains("expires=thu, 01 jan 1970") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), (value.to_owned(), lower.contains("samesite=strict")));
            }
        }
        shown
    }

    pub fn url(&self, path: &str) -> Url {
        Url::parse(&self.gateway).unwrap().join(path).unwrap()
    }

    /// A page of the gateway, by typing its address.
    pub fn see(&mut self, path: &str) -> Shown {
        self.send(Method::GET, &self.url(path), None, &[], false)
    }

    /// A form of one of the gateway's own pages.
    pub fn submit(&mut self, path: &str, form: &[(&str, &str)]) -> Shown {
        let origin = self.gateway.clone();
        let headers = [("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
        self.send(Method::POST, &self.url(path), Some(form), &headers, false)
    }

    /// The API, as a script of our own pages asks it.
    pub fn api(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: &serde_json::Value) -> Shown {
        let (client, url) = (self.client.clone(), self.url(path));
        let cookie =
            self.cookies.iter().map(|(name, (value, _))| format!("{name}={value}")).collect::<Vec<_>>().join("; ");
        let mut request = client.request(method, url).header("cookie", cookie).json(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let (status, headers) = (answer.status(), answer.headers().clone());
            Shown { status, headers, text: answer.text().await.unwrap() }
        })
    }

    pub fn me(&mut self) -> Shown {
        self.api(Method::GET, "/api/v1/me", &[], &serde_json::Value::Null)
    }

    /// Begins to sign in and goes as far as the provider sends us back to the gateway: the address to come back to.
    pub fn as_far_as_the_way_back(&mut self, user: &str, to: &str) -> Url {
        let begun = self.see(&format!("/signin?to={to}"));
        assert_eq!(begun.status, StatusCode::SEE_OTHER, "{}", begun.text);
        let mut url = Url::parse(begun.location().unwrap()).unwrap();
        let mut shown = self.send(Method::GET, &url, None, &[], false);
        for _ in 0..20 {
            if let Some(to) = shown.location() {
                url = url.join(to).unwrap();
                if url.as_str().starts_with(&format!("{}/signin/callback", self.gateway)) {
                    return url;
                }
                shown = self.send(Method::GET, &url, None, &[], false);
                continue;
            }
            let action = url.join(&shown.after("action=\"").unwrap_or_else(|| panic!("no form: {}", shown.text)));
            let prompt = shown.after("name=\"prompt\" value=\"").unwrap_or_default();
            url = action.unwrap();
            let form = [("prompt", prompt.as_str()), ("login", user), ("password", "x")];
            shown = self.send(Method::POST, &url, Some(&form), &[], false);
        }
        panic!("the sign-in does not end: {}", shown.text);
    }

    /// Comes back from the provider, which is another site.
    pub fn come_back(&mut self, url: &Url) -> Shown {
        self.send(Method::GET, url, None, &[("sec-fetch-site", "cross-site")], true)
    }

    /// Signs in from begin to end.
    pub fn sign_in(&mut self, user: &str, to: &str) -> Shown {
        let back = self.as_far_as_the_way_back(user, to);
        self.come_back(&back)
    }

    pub fn csrf(&mut self) -> String {
        serde_json::from_str::<serde_json::Value>(&self.me().text).unwrap()["csrf"].as_str().unwrap().to_owned()
    }
}

/// Lines of `[http]`: sign-in at the provider.
pub const SIGN_IN: &str = "[http.signin]\nclient_id = \"console\"\nclient_secret = \"a secret: with +signs/\"\n";

/// A provider, a gate whose people sign in there, and a browser.
pub fn pair(signin: &str, words: &str) -> (Provider, Gate, Browser) {
    let mut provider = Provider::start();
    let gate = provider.gate_with(&format!("{SIGN_IN}{signin}"));
    let browser = Browser::new(&gate);
    provider.ask(&format!("console {}{words}", browser.gateway), "console ");
    (provider, gate, browser)
}
