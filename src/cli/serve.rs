//! `portcullis serve`: the gateway itself.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use super::ConfigFile;
use crate::config::Config;
use crate::serve::{self, Start};

/// Run the gateway
///
/// Prints a line `listening SERVICE ADDRESS` for each socket and then `ready`. While nobody administers yet it also says, at a
/// terminal, the link for the first admin; DATA_DIR/bootstrap-link holds it too, for 15 minutes. SIGHUP reads certificates, keys, the
/// policy file and the files of upstreams again (so does saving them); SIGTERM tells every session and stops.
///
/// With --take-over a new process takes the place of the one that serves DATA_DIR, and no connection is refused meanwhile. The old
/// one tells its sessions to connect again and ends; only sessions that are relayed to another server go on in it, by its config and
/// the policy in force, until they end or limits.relay_drain_s is over (the shorter one of both processes). If the new process
/// cannot serve, the old one goes on; database tables that the new one brought up to date stay so. systemd may pass the listening
/// sockets instead, named imaps, pop3s and http (FileDescriptorName=); they replace the addresses of listen.* of that name.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes: 0 stopped by SIGTERM or SIGINT, or another process has taken over; 2 a config, policy, certificate, key, \
database, mail folder or address is wrong, and no policy was applied.

Examples:
    portcullis serve --config config/portcullis.toml
    portcullis serve --config config/portcullis.toml --take-over")]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Take the place of the process that serves DATA_DIR now; without one it is an error
    #[arg(long)]
    take_over: bool,
}

impl Arguments {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let start = if self.take_over { Start::TakingOver } else { Start::Alone };
        run(&self.config.read()?, start, |_| {})
    }
}

/// Serves until told to stop; `ready` is called once with what was bound.
pub(super) fn run(config: &Config, start: Start, ready: impl FnOnce(&[serve::Bound])) -> anyhow::Result<ExitCode> {
    serve::start_log(&config.log);
    // For what goes on beside the sessions, which have threads of their own: a large change being applied holds up neither
    // the watch over them nor the signal to stop.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let server = serve::Server::start(config, start).await?;
        for bound in server.bound() {
            super::say(&format!("listening {} {}", bound.name, bound.address))?;
        }
        super::say("ready")?;
        ready(server.bound());
        if let Some(link) = server.first_admin_link()
            // What is not a terminal may be a journal, which keeps and shows it to others.
            && io::stdout().is_terminal()
        {
            super::say(&format!(
                "\nNobody administers yet. Whoever opens this link within 15 minutes and signs in becomes super admin; it \
                 works once:\n{}\n",
                link.reveal()
            ))?;
        }
        server.run().await
    })?;
    Ok(ExitCode::SUCCESS)
}
