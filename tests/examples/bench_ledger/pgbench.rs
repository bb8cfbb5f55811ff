//! The yardstick: PostgreSQL's own TPC-B-like load, on the same server, with as many callers.

use std::path::{Path, PathBuf};
use std::process::Command;

/// pgbench and the database that it was given.
pub(crate) struct Pgbench {
    program: PathBuf,
    url: String,
    pub(crate) version: String,
}

impl Pgbench {
    /// # Errors
    /// Where there is no pgbench beside the server's programs.
    pub(crate) fn find(folder: &Path, url: String) -> Result<Self, String> {
        let program = folder.join("pgbench");
        let said = Command::new(&program).arg("--version").output().map_err(|_| {
            format!("error: no pgbench in {}\nhint: apt-get install postgresql-contrib", folder.display())
        })?;
        let version = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Ok(Self { program, url, version })
    }

    /// Makes its tables; scale 1 is one hot branch.
    pub(crate) fn fill(&self, scale: u32) -> Result<(), String> {
        self.run(&["-i", "-q", "-s", &scale.to_string()]).map(drop)
    }

    /// Transactions per second of `callers` for `seconds`.
    pub(crate) fn round(&self, callers: usize, seconds: u64) -> Result<f64, String> {
        let (callers, seconds) = (callers.to_string(), seconds.to_string());
        let said = self.run(&["-n", "-c", &callers, "-j", "2", "-T", &seconds])?;
        let line = said.lines().find_map(|line| line.strip_prefix("tps = ")).unwrap_or_default();
        let number = line.split(' ').next().and_then(|number| number.parse().ok());
        number.ok_or_else(|| format!("error: pgbench said no tps: {said}"))
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.program);
        let ran = command.args(arguments).arg(&self.url).output();
        let ran = ran.map_err(|error| format!("error: cannot run pgbench: {error}"))?;
        if ran.status.success() {
            Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
        } else {
            Err(format!("error: pgbench: {}", String::from_utf8_lossy(&ran.stderr)))
        }
    }
}
