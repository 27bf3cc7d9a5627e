//! Set-up help, for people who have no token yet: what a mail program has to be told (`autoconfig`, `add_on`, `guide`) and
//! what a refusal means (`advice`, `help`, `refusals`). Public but for `refusals`; nothing here tells whether an address
//! exists.

mod add_on;
mod advice;
mod autoconfig;
mod guide;
mod help;
mod page;
mod refusals;
mod settings;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};

pub use add_on::{AddOnError, Package, Unnumbered, prepare};
pub use guide::{Guide, Program, Record};
pub use settings::{AddOn, MailServer, SetupSettings, SignIn, Smtp, SmtpSignIn};

use super::Control;

pub(super) fn routes() -> OpenApiRouter<Arc<Control>> {
    OpenApiRouter::new()
        .routes(routes!(autoconfig::at_autoconfig_host))
        .routes(routes!(autoconfig::at_well_known))
        .routes(routes!(autoconfig::at_newest_address))
        .routes(routes!(add_on::first))
        .routes(routes!(add_on::numbered))
        .routes(routes!(guide::guide))
        .routes(routes!(page::style))
        .routes(routes!(help::help))
        .routes(routes!(help::reference))
        .routes(routes!(refusals::my_refusal))
}
