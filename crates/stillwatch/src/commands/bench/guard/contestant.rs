//! The programs that are held against each other, each a process of its own, so that its
//! CPU and memory are its own.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::load::ACCOUNTS;
use crate::failure::Failure;

/// Accounts of the campaign that the guard answers.
const MEMBERS: usize = ACCOUNTS / 10;
/// `sysconf(_SC_CLK_TCK)` on Linux, per second.
const TICKS: f64 = 100.0;
/// How often a program is asked whether it answers yet, and how long it may take.
const PATIENCE: Duration = Duration::from_millis(100);
const PATIENCE_TURNS: usize = 600;

/// A program that passes requests on, or answers them.
pub struct Contestant {
    pub name: &'static str,
    pub address: SocketAddr,
    child: Child,
}

impl Contestant {
    /// This program in another role; it says `listening on ADDR`.
    fn own(name: &'static str, arguments: &[&str]) -> Result<Self, Failure> {
        let cannot = |error: &dyn std::fmt::Display| failed(name, error);
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(|error| cannot(&error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| cannot(&error))?;
        }
        let address = line.trim().strip_prefix("listening on ").and_then(|a| a.parse().ok());
        match address {
            Some(address) => Ok(Contestant { name, address, child }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(cannot(&"it did not start"))
            }
        }
    }

    /// Another program, which listens where it is told to.
    fn other(
        name: &'static str,
        address: SocketAddr,
        command: &mut Command,
    ) -> Result<Self, Failure> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|error| failed(name, &error))?;
        let mut contestant = Contestant { name, address, child };
        for _ in 0..PATIENCE_TURNS {
            if TcpStream::connect(address).is_ok() {
                return Ok(contestant);
            }
            if let Ok(Some(status)) = contestant.child.try_wait() {
                return Err(failed(name, &status));
            }
            #[expect(clippy::disallowed_methods, reason = "another program takes its time")]
            std::thread::sleep(PATIENCE);
        }
        Err(failed(name, &"it never answered"))
    }

    /// The stand-in for a model's API.
    pub fn mock() -> Result<Self, Failure> {
        Contestant::own("the model's stand-in", &["bench", "part", "mock"])
    }

    /// A minimal proxy on hyper.
    pub fn minimal(upstream: SocketAddr, threads: usize) -> Result<Self, Failure> {
        let (upstream, threads) = (upstream.to_string(), threads.to_string());
        let arguments = ["bench", "part", "proxy", "--upstream", &upstream, "--threads", &threads];
        Contestant::own("minimal hyper proxy", &arguments)
    }

    /// A guard that knows a hundred thousand keys, answers a campaign of a tenth of them,
    /// measures and records.
    pub fn guard(upstream: SocketAddr, threads: usize, dir: &Path) -> Result<Self, Failure> {
        let below = |name: &str| dir.join(name);
        let verdicts = below("verdicts");
        write(&below("credentials.jsonl"), &credentials())?;
        write(&below("policy.toml"), POLICY)?;
        write_finding(&verdicts)?;
        let text = |path: PathBuf| path.display().to_string();
        let arguments = [
            "guard".to_owned(),
            "--listen".to_owned(),
            "127.0.0.1:0".to_owned(),
            "--admin".to_owned(),
            "127.0.0.1:0".to_owned(),
            "--upstream".to_owned(),
            format!("http://{upstream}"),
            "--threads".to_owned(),
            threads.to_string(),
            "--credentials".to_owned(),
            text(below("credentials.jsonl")),
            "--policy".to_owned(),
            text(below("policy.toml")),
            "--verdicts".to_owned(),
            text(verdicts),
            "--state".to_owned(),
            text(below("state")),
        ];
        Contestant::own("stillwatch guard", &arguments.each_ref().map(String::as_str))
    }

    /// nginx, where it is found: in one process, without buffering, as one sets it before
    /// streams.
    pub fn nginx(upstream: SocketAddr, dir: &Path) -> Result<Option<Self>, Failure> {
        let Some(program) = found("nginx", &["/usr/sbin"]) else { return Ok(None) };
        let address = free_address("nginx")?;
        let shown = dir.display();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {shown}/nginx.pid;\nerror_log /dev/null;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  client_body_temp_path {shown}/body;\n  \
             proxy_temp_path {shown}/proxy;\n  fastcgi_temp_path {shown}/fastcgi;\n  \
             uwsgi_temp_path {shown}/uwsgi;\n  scgi_temp_path {shown}/scgi;\n  \
             keepalive_requests 1000000000;\n  \
             upstream model {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}\n  \
             server {{\n    listen {address};\n    location / {{\n      proxy_pass http://model;\n      \
             proxy_http_version 1.1;\n      proxy_set_header connection \"\";\n      \
             proxy_buffering off;\n    }}\n  }}\n}}\n"
        );
        let path = dir.join("nginx.conf");
        write(&path, &config)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(dir).arg("-c").arg(&path);
        Contestant::other("nginx", address, &mut command).map(Some)
    }

    /// LiteLLM's proxy, where it is found: one worker, no database, no keys.
    pub fn litellm(upstream: SocketAddr, dir: &Path) -> Result<Option<Self>, Failure> {
        let python = std::env::var_os("STILLWATCH_TEST_PYTHON").map(PathBuf::from);
        let beside = python.as_deref().and_then(Path::parent).and_then(Path::to_str);
        let Some(program) = found("litellm", &[beside.unwrap_or_default()]) else {
            return Ok(None);
        };
        let address = free_address("LiteLLM")?;
        let models = ["m", super::wire::PACED].map(|model| {
            json!({
                "model_name": model,
                "litellm_params": {
                    "model": format!("openai/{model}"),
                    "api_base": format!("http://{upstream}/v1"),
                    "api_key": "sk-bench",
                },
            })
        });
        let config = json!({ "model_list": models, "litellm_settings": { "telemetry": false } });
        // JSON is YAML.
        let path = dir.join("litellm.yaml");
        write(&path, &config.to_string())?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&path).args(["--host", "127.0.0.1", "--num_workers", "1"]);
        command.arg("--port").arg(address.port().to_string());
        // Its own keys would need a database; it is spared them.
        command.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
        Contestant::other("LiteLLM", address, &mut command).map(Some)
    }

    /// Seconds of CPU so far.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = self.proc("stat")?;
        // After the name, which may hold anything, come the fields from the third on.
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        match (ticks(11), ticks(12)) {
            (Some(user), Some(system)) => Ok((user + system) / TICKS),
            _ => Err(failed(self.name, &"its CPU time can't be read from /proc")),
        }
    }

    /// Memory in bytes: what it holds, and the most that it has held.
    pub fn memory_bytes(&self) -> Result<(u64, u64), Failure> {
        let status = self.proc("status")?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        match (kib("VmRSS:"), kib("VmHWM:")) {
            (Some(now), Some(most)) => Ok((now << 10, most << 10)),
            _ => Err(failed(self.name, &"its memory can't be read from /proc")),
        }
    }

    fn proc(&self, file: &str) -> Result<String, Failure> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).map_err(|error| {
            failed(self.name, &format!("it is gone, or this is no Linux: {error}"))
        })
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(name: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::Other(format!("cannot run {name}: {error}"))
}

fn found(program: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = more.iter().filter(|folder| !folder.is_empty()).map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(program))
        .find(|p| p.is_file())
}

/// An address that nobody listens on.
fn free_address(name: &str) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| failed(name, &error))?;
    listener.local_addr().map_err(|error| failed(name, &error))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(Failure::at("write", path))
}

/// A bucket that is taken from and settled, and never empty.
const POLICY: &str = r#"mode = "enforce"
[slow]
output_tokens_per_minute = 1000000000
burst_tokens = 1000000000
[[rule]]
rank_only = true
steps = [{ do = "slow", for = "30 days" }]
"#;

fn account(number: usize) -> String {
    format!("acct_{number}")
}

fn credentials() -> String {
    let mut rows = String::new();
    for number in 0..ACCOUNTS {
        rows.push_str("{\"credential_hash\":\"");
        for byte in Sha256::digest(format!("sk-{number}").as_bytes()) {
            // Writing to a String can't fail.
            let _ = write!(rows, "{byte:02x}");
        }
        let _ = writeln!(rows, "\",\"account_id\":\"{}\"}}", account(number));
    }
    rows
}

/// A finding with [`MEMBERS`] accounts, as a hunt writes it.
fn write_finding(dir: &Path) -> Result<(), Failure> {
    let campaign = json!([{
        "campaign_id": "bench", "kind": "distillation", "evidence_value": 50.0,
        "discovery_rate": 0.05, "strata": [], "references": 300, "rank": 1,
        "guilty_members_at_least": { "members": MEMBERS, "level": 0.95 },
        "accounts": MEMBERS, "exchanges": 1, "output_tokens": 1, "reasoning_tokens": 0,
        "cost_usd": 0.0, "first_seen": "2026-03-01T00:00:00Z", "last_seen": "2026-03-02T00:00:00Z",
        "first_detectable": "2026-03-01T12:00:00Z", "exchanges_before_detection": 0,
        "capabilities": [], "routes": [], "models": [], "techniques": [], "evidence": [],
    }]);
    fs::create_dir_all(dir).map_err(Failure::at("make the folder", dir))?;
    write(&dir.join("campaigns.json"), &campaign.to_string())?;
    let path = dir.join("members.parquet");
    let cannot = |error: &dyn std::fmt::Display| {
        Failure::Other(format!("cannot write {}: {error}", path.display()))
    };
    let members = RecordBatch::try_from_iter([
        ("campaign_id", Arc::new(StringArray::from(vec!["bench"; MEMBERS])) as ArrayRef),
        (
            "account_id",
            Arc::new(StringArray::from_iter_values((0..MEMBERS).map(|n| account(n * 10)))),
        ),
        ("membership", Arc::new(Float64Array::from(vec![1.0; MEMBERS]))),
    ])
    .map_err(|error| cannot(&error))?;
    let file = fs::File::create(&path).map_err(|error| cannot(&error))?;
    let mut writer =
        ArrowWriter::try_new(file, members.schema(), None).map_err(|error| cannot(&error))?;
    writer.write(&members).map_err(|error| cannot(&error))?;
    writer.close().map_err(|error| cannot(&error))?;
    Ok(())
}
