//! `portcullis explain`: the decision step by step, and the checks of a pasted token.

use std::{
    io::{self, Read},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, bail};

use super::{
    ConfigFile, EXIT_WRONG,
    remote::{Access, reports},
};
use crate::config::Config;
use crate::issuer::Issuers;
use crate::model::{ClientId, Secret, Service, UnixTime, UserId};
use crate::policy::{self, Directory, Question};
use crate::serve;
use crate::store::Store;
use crate::token::Identity;

/// Longest token read from standard input. In bytes.
const MAX_TOKEN: u64 = 1024 * 1024;

/// Explain a decision step by step
///
/// Walks the very code that decides at the gate, over the state in the database. With --token - a token is read from
/// standard input and checked first; user and app then come from it. With --config the database is read; without it the API
/// of a running gateway is asked.
#[derive(Debug, clap::Args)]
#[command(mut_arg("path", |config| config.required(false)), after_help = "\
Exit codes: 0 yes; 1 no; 2 cannot tell.

Examples:
    portcullis explain --config config/portcullis.toml --user ann@example.com --app CLIENT-ID --service imap
    portcullis explain --url https://mail.example.com --token-file token --user ann@example.com --app CLIENT-ID --service imap
    portcullis explain --config config/portcullis.toml --service pop --token - < token.txt")]
#[command(group = clap::ArgGroup::new("who").required(true).multiple(true).args(["user", "token"]))]
pub(super) struct Arguments {
    #[command(flatten)]
    config: Option<ConfigFile>,
    #[command(flatten)]
    access: Access,
    /// Who wants in
    #[arg(long, value_name = "ADDRESS", requires = "app", conflicts_with = "token")]
    user: Option<String>,
    /// With which app (client ID)
    #[arg(long, value_name = "CLIENT-ID", conflicts_with = "token")]
    app: Option<String>,
    /// By which protocol
    #[arg(long, value_parser = ["imap", "pop"])]
    service: String,
    /// Whose mailbox, if it is not the user's own: a shared mailbox
    #[arg(long, value_name = "ADDRESS")]
    mailbox: Option<String>,
    /// As a service account (by domain-wide delegation)
    #[arg(long, conflicts_with = "token")]
    service_account: bool,
    /// Check a pasted token: `-` reads it from standard input, so that it stays out of the shell's history
    #[arg(long, value_name = "-", value_parser = ["-"], requires = "path")]
    token: Option<String>,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let Some(config) = &self.config else { return self.ask() };
        if self.access.json {
            bail!("explain: --json is for the answer of the API; leave out --config");
        }
        let config = config.read()?;
        let service = Service::from_word(&self.service).context("--service is imap or pop")?;
        super::block_on(async {
            let (question, who) = match &self.token {
                None => (self.question(service)?, None),
                Some(_) => match self.ask_of_token(&config, service).await? {
                    Ok((question, who)) => (question, Some(who)),
                    Err(exit) => return Ok(exit),
                },
            };
            decision(&config, &question, who.as_ref()).await
        })
    }

    fn ask(&self) -> anyhow::Result<ExitCode> {
        let query = [
            ("user", self.user.as_deref()),
            ("app", self.app.as_deref()),
            ("service", Some(&*self.service)),
            ("mailbox", self.mailbox.as_deref()),
            ("service_account", self.service_account.then_some("true")),
        ];
        reports::why(&self.access, &reports::given(&query))
    }

    fn question(&self, service: Service) -> anyhow::Result<Question> {
        let user = UserId::parse(self.user.as_deref().context("--user is missing")?).context("--user")?;
        let app = ClientId::parse(self.app.as_deref().context("--app is missing")?).context("--app")?;
        Ok(Question {
            owner: self.owner(&user)?,
            user,
            app,
            service,
            issued_at: Some(now()),
            service_account: self.service_account,
        })
    }

    fn owner(&self, user: &UserId) -> anyhow::Result<UserId> {
        match &self.mailbox {
            None => Ok(user.clone()),
            Some(mailbox) => UserId::parse(mailbox).context("--mailbox"),
        }
    }

    /// Checks the pasted token; the exit code if it is not believed.
    async fn ask_of_token(
        &self,
        config: &Config,
        service: Service,
    ) -> anyhow::Result<Result<(Question, Identity), ExitCode>> {
        let mut text = String::new();
        io::stdin().take(MAX_TOKEN).read_to_string(&mut text).context("cannot read a token from standard input")?;
        let token = Secret::new(text.trim());
        if token.reveal().is_empty() {
            bail!("no token on standard input: paste one, or pipe it in");
        }
        let issuers = Issuers::new(config.issuer_settings()?)?;
        let diagnosis = match issuers.diagnose(&token, now()).await {
            Ok(diagnosis) => diagnosis,
            Err(unavailable) => {
                super::say(&format!("??  token       {unavailable}"))?;
                return Ok(Err(ExitCode::from(EXIT_WRONG)));
            }
        };
        for step in &diagnosis.steps {
            super::say(&step.to_string())?;
        }
        match diagnosis.verdict {
            Err(error) => {
                super::say(&format!("\nno: the token is not believed: {error}"))?;
                Ok(Err(ExitCode::from(1)))
            }
            Ok(who) => self.scope(&issuers, who, service),
        }
    }

    fn scope(
        &self,
        issuers: &Issuers,
        who: Identity,
        service: Service,
    ) -> anyhow::Result<Result<(Question, Identity), ExitCode>> {
        let (wanted, _) = issuers.hint(Some(&who), service);
        if !issuers.scope_suffices(&who, service) {
            super::say(&format!(
                "NO  scope       the token has {:?}, and needs one of {wanted:?}\n\nno: the token's scope does not cover \
                 {service}",
                who.scopes().join(" ")
            ))?;
            return Ok(Err(ExitCode::from(1)));
        }
        super::say(&format!("ok  scope       {:?} covers {service}", who.scopes().join(" ")))?;
        let question = Question {
            owner: self.owner(who.user())?,
            user: who.user().clone(),
            app: who.app().clone(),
            service,
            issued_at: who.issued_at(),
            service_account: who.service_account(),
        };
        Ok(Ok((question, who)))
    }
}

/// `who` where a token was pasted: what its issuer said of it since is taken into account.
async fn decision(config: &Config, question: &Question, who: Option<&Identity>) -> anyhow::Result<ExitCode> {
    let explain = |directory: &Directory| match who {
        Some(who) => policy::explain_token(who, &question.owner, question.service, directory, now()),
        None => policy::explain(question, directory, now()),
    };
    let settings = config.store_settings();
    let explanation = match (settings.is_made().await?, &config.policy_file) {
        (true, _) => {
            let store = Store::open(&settings).await?;
            store.read(explain)
        }
        (false, Some(file)) => {
            eprintln!("portcullis: there is no database yet; this is what {} says", file.display());
            explain(&serve::policy_document(file, &config.homes())?.to_directory())
        }
        (false, None) => bail!(
            "{}: there is no database yet, so nobody can tell; `portcullis serve` makes it at its first start",
            config.data_dir.display()
        ),
    };
    for step in &explanation.steps {
        super::say(&step.to_string())?;
    }
    Ok(match explanation.verdict {
        Ok(()) => {
            super::say(&format!(
                "\nyes: {} may read {} by {} with {}",
                question.user, question.owner, question.service, question.app
            ))?;
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            super::say(&format!("\nno: {refusal}"))?;
            if let Some(place) = refusal.place() {
                super::say(&format!("to change it: {place}"))?;
            }
            ExitCode::from(1)
        }
    })
}

fn now() -> UnixTime {
    SystemTime::now().into()
}
