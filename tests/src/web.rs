//! nginx and curl, and what is told of HTTP.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::node::PATIENCE;
use crate::process::{self, Running, wait_for};
use crate::processor::Told;
use crate::words;

/// What they need, with their Debian packages.
pub const PROGRAMS: [(&str, &str); 2] = [("curl", "curl"), ("nginx", "nginx-light")];

/// All but the servers. Names of files are those of its folder.
const CONFIGURATION: &str = "\
daemon off; master_process off; pid pid; error_log error.log;
events {}
http {
  log_format plain '$request_method $http_host $uri $status';
  access_log access.log plain;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  gzip on; gzip_min_length 1; gzip_types text/plain;
  root www;
";

/// A running nginx; ended when dropped.
#[derive(Debug)]
pub struct Nginx {
    _running: Running,
    log: PathBuf,
}

impl Nginx {
    /// Starts it in the network namespace `namespace` and the folder `folder`, with `servers` in the words of its configuration, all of which
    /// have these files: name and contents.
    ///
    /// # Errors
    ///
    /// What failed.
    pub fn start(
        namespace: &str,
        folder: &Path,
        servers: &str,
        files: &[(&str, &str)],
    ) -> Result<Self, String> {
        let www = folder.join("www");
        fs::create_dir(&www).map_err(words)?;
        for (name, contents) in files {
            fs::write(www.join(name), contents).map_err(words)?;
        }
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, format!("{CONFIGURATION}{servers}}}\n")).map_err(words)?;
        let arguments = [
            Path::new("-p"),
            folder,
            Path::new("-c"),
            configuration.as_path(),
        ];
        let running = process::start_in(namespace, Path::new("nginx"), arguments);
        Ok(Self {
            _running: running.map_err(words)?,
            log: folder.join("access.log"),
        })
    }

    /// What it has logged of each request, sorted, once there are so many: `GET host:port /path 200`.
    ///
    /// # Errors
    ///
    /// What it has logged by the end of all patience, where there are fewer.
    pub fn logged(&self, requests: usize) -> Result<Vec<String>, String> {
        let log = || fs::read_to_string(&self.log).unwrap_or_default();
        let all = wait_for(PATIENCE, || {
            Some(log()).filter(|text| text.lines().count() >= requests)
        });
        let all = all.ok_or_else(|| format!("fewer than {requests} requests: {}", log()))?;
        let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

/// What curl gets with these arguments, in the network namespace `namespace`. It waits for the server to listen, trusts every certificate, and writes its secrets to `keys`.
///
/// # Errors
///
/// What failed; that it ended with another code than 0 too.
pub fn curl(namespace: &str, keys: Option<&Path>, arguments: &[&str]) -> Result<String, String> {
    let mut all: Vec<OsString> = Vec::new();
    if let Some(keys) = keys {
        let mut variable = OsString::from("SSLKEYLOGFILE=");
        variable.push(keys);
        all.push(variable);
    }
    let usual = ["curl", "-ksS", "--retry-connrefused", "--retry", "5"];
    all.extend(usual.iter().chain(arguments).map(OsString::from));
    let running = process::start_in(namespace, Path::new("env"), all).map_err(words)?;
    let outcome = running.finish(PATIENCE).map_err(words)?;
    match outcome.code() {
        0 => Ok(outcome.stdout),
        _ => Err(format!("{arguments:?}: {}", outcome.stderr)),
    }
}

/// The message that is told of: `GET host /path`, or `200`.
pub fn message(told: &Told) -> Option<String> {
    let details = &told.metadata.as_ref()?.details;
    let get = |key: &str| details.get(key).map_or("", String::as_str);
    match get("http.type") {
        "request" => Some(["http.method", "http.host", "http.path"].map(get).join(" ")),
        "response" => Some(get("http.status").to_owned()),
        _ => None,
    }
}

/// The responses that are told of, sorted, each with what was asked, in the form of [`Nginx::logged`].
pub fn responses(told: &[Told]) -> Vec<String> {
    let response = |told: &Told| {
        let details = &told.metadata.as_ref()?.details;
        let get = |key: &str| details.get(key).map_or("", String::as_str);
        let parts = ["http.method", "http.host", "http.path", "http.status"].map(get);
        (get("http.type") == "response").then(|| parts.join(" "))
    };
    let mut responses: Vec<String> = told.iter().filter_map(response).collect();
    responses.sort();
    responses
}
