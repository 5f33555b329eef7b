//! Placeholder.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
impl Args {
    pub(super) fn run(
        &self,
        _dir: impl FnOnce() -> Result<std::path::PathBuf, String>,
    ) -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
