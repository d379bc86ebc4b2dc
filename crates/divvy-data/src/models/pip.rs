//! Running the machine's own pip, so that its index, proxy, certificates and cache apply and no registry is named
//! here. Downloads only: a wheel is never installed and none of its code runs.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use super::fetch::{FetchError, FetchSettings, io_error};

/// How often the size of the growing download is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Downloads the wheel of `requirement` (`name==version`) into the empty directory `into`. `scratch` holds pip's
/// temporary files, so that they lie on the cache's disk and their size shows the progress: `on_bytes` hears it.
///
/// # Errors
/// [`FetchError::PipMissing`], [`FetchError::PackageMissing`], [`FetchError::DiskFull`], [`FetchError::Pip`].
pub fn download(
    settings: &FetchSettings,
    requirement: &str,
    into: &Path,
    scratch: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    fs::create_dir_all(scratch).map_err(io_error("create", scratch))?;
    let mut command = Command::new(&settings.python);
    command
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "-d"])
        .arg(into)
        .arg(requirement);
    command.env("TMPDIR", scratch).env("LC_ALL", "C");
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_NO_INPUT", "1");
    command.envs(settings.pip_env.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let missing = |error: io::Error| FetchError::PipMissing {
        python: settings.python.clone(),
        reason: if error.kind() == io::ErrorKind::NotFound { "not found".to_owned() } else { error.to_string() },
    };
    let child = command.spawn().map_err(missing)?;
    let output = wait(child, &mut || on_bytes(bytes_below(scratch) + bytes_below(into))).map_err(missing)?;
    if output.status.success() { Ok(()) } else { Err(explain(settings, requirement, into, &output)) }
}

/// Waits for the child while reading its stderr, so that a full pipe cannot stall it.
fn wait(mut child: Child, on_poll: &mut dyn FnMut()) -> io::Result<Output> {
    let mut pipe = child.stderr.take().expect("stderr is piped");
    let reader = thread::spawn(move || {
        let mut text = Vec::new();
        // What could be read is all there is to show.
        let _ = pipe.read_to_end(&mut text);
        text
    });
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None => thread::sleep(POLL),
        }
        on_poll();
    };
    Ok(Output { status, stdout: Vec::new(), stderr: reader.join().unwrap_or_default() })
}

/// Turns pip's own words into one of our errors.
fn explain(settings: &FetchSettings, requirement: &str, into: &Path, output: &Output) -> FetchError {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let package = requirement.to_owned();
    if stderr.contains("No module named pip") {
        return FetchError::PipMissing { python: settings.python.clone(), reason: "it has no pip module".to_owned() };
    }
    if stderr.contains("No space left on device") || stderr.contains("Disk quota exceeded") {
        return FetchError::DiskFull { path: into.to_owned() };
    }
    let detail = last_error(&stderr).unwrap_or_else(|| format!("pip ended with {}", output.status));
    // Both lines also follow when the index could not be reached at all; pip's warnings then say so.
    if let Some(reason) = unreachable(&stderr) {
        return FetchError::Pip { package, detail: format!("the package index cannot be reached ({reason})") };
    }
    if stderr.contains("No matching distribution found") {
        return FetchError::PackageMissing { package, detail };
    }
    FetchError::Pip { package, detail }
}

fn last_error(stderr: &str) -> Option<String> {
    stderr.lines().rev().find_map(|line| line.trim().strip_prefix("ERROR: ")).map(str::to_owned)
}

/// Why pip's connection attempts failed, if they did. Only the class of failure: the text has the index's address.
fn unreachable(stderr: &str) -> Option<&'static str> {
    const CAUSES: [(&str, &str); 6] = [
        ("Name or service not known", "its name does not resolve"),
        ("Temporary failure in name resolution", "its name does not resolve"),
        ("NameResolutionError", "its name does not resolve"),
        ("Connection refused", "connection refused"),
        ("ProxyError", "the proxy failed"),
        ("ConnectTimeout", "time-out"),
    ];
    CAUSES.iter().find(|(sign, _)| stderr.contains(sign)).map(|&(_, cause)| cause)
}

/// Bytes of all files below `dir`. A file that vanishes meanwhile counts nothing: this is for a progress bar.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
