//! The apps that Portcullis knows by name before anybody told it. Called by [`super::Directory`].

use super::App;
use crate::model::ClientId;

/// Client ID and name of the shipped apps. Source: Google Workspace admin help, "Turn POP & IMAP on or off for users",
/// which prints these two for admins to paste.
const SHIPPED: [(&str, &str); 2] = [
    ("450232826690-0rm6bs9d2fps9tifvk2oodh3tasd7vl7.apps.googleusercontent.com", "Apple iOS Mail"),
    ("946018238758-bi6ni53dfoddlgn97pk3b8i7nphige40.apps.googleusercontent.com", "Apple Mac Mail"),
];

/// The shipped entries. A row of the organisation's own replaces one; its name stays where the row gives none.
pub fn apps_shipped() -> impl Iterator<Item = (ClientId, App)> {
    SHIPPED.iter().filter_map(|(id, name)| {
        Some((ClientId::parse(id).ok()?, App { name: Some((*name).to_owned()), ..App::default() }))
    })
}

/// The shipped name of an app.
pub fn shipped_name(app: &ClientId) -> Option<&'static str> {
    SHIPPED.iter().find(|(id, _)| *id == app.as_str()).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_catalogue_names_both_apple_programs() {
        let names: Vec<_> = apps_shipped().filter_map(|(_, app)| app.name).collect();
        assert_eq!(names, ["Apple iOS Mail", "Apple Mac Mail"]);
    }
}
