//! A NATS server with JetStream that can be killed and started again.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use stillwatch_broker::{Access, Address, Server};
use tempfile::TempDir;

/// The server's program: beside the Python of the tests, or on the path.
fn program() -> Option<PathBuf> {
    let python = std::env::var_os("STILLWATCH_TEST_PYTHON").map(PathBuf::from);
    let beside = python.and_then(|python| Some(python.parent()?.join("nats-server")));
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| {
        std::env::split_paths(&path).map(|folder| folder.join("nats-server")).collect::<Vec<_>>()
    });
    beside.into_iter().chain(on_path).find(|program| program.is_file())
}

pub struct Nats {
    program: PathBuf,
    store: TempDir,
    address: SocketAddr,
    running: Option<Child>,
}

impl Nats {
    /// Starts a server; none where there is none on this machine.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!("skipped: no nats-server on this machine");
            return None;
        };
        // Nobody else is given the port so soon after.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let store = tempfile::tempdir().unwrap();
        let mut nats = Nats { program, store, address, running: None };
        nats.run();
        Some(nats)
    }

    /// Starts it, or starts it again with what it has stored.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["-a", "127.0.0.1", "-p", &self.address.port().to_string(), "-js", "-sd"]);
        command.arg(self.store.path()).stdout(Stdio::null()).stderr(Stdio::null());
        self.running = Some(command.spawn().unwrap());
        for _ in 0..1000 {
            if TcpStream::connect(self.address).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("the server does not listen");
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub fn url(&self, name: &str) -> String {
        format!("nats://{}/{name}", self.address)
    }

    /// A connection of the test's own.
    pub async fn connect(&self, name: &str) -> Server {
        let address: Address = self.url(name).parse().unwrap();
        Server::connect(&address, &Access::default()).await.unwrap()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for a future, in a runtime of its own.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}
