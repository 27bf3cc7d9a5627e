//! Config files: a whole config, or mistakes that can be shown.

use std::path::Path;

use portcullis::config::{Config, ConfigError};

pub fn run(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("/etc/portcullis/portcullis.toml")) {
        Err(ConfigError::Wrong(error)) => super::policy_file::shown(&error, text),
        Err(error) => panic!("nothing was to be opened: {error}"),
        Ok(config) => {
            assert!(!config.hostname.is_empty() && !config.tls.is_empty() && !config.issuers.is_empty());
            assert!(config.paths().iter().all(|(_, path)| path.is_absolute()));
            assert!(
                config
                    .issuers
                    .iter()
                    .all(|issuer| !issuer.rules.url.is_empty() && !issuer.rules.audience.is_empty())
            );
            let _ = format!("{config:?}");
        }
    }
}
