//! Where a kernel is reached: its connection file, and the sockets it leaves behind.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use tithon_ipc::jupyter::ConnectionFile;

use super::Session;
use crate::python::Launch;

/// The "ports" of a kernel's `ipc://` endpoints: what follows the dash in their sockets' names.
const PORTS: [u16; 5] = [1, 2, 3, 4, 5];
/// In a kernel's environment: `tcp` for one that knows nothing else. Any user of the machine can read what it
/// publishes then, though not send it anything: messages are signed. A Python kernel never needs it.
const TRANSPORT: &str = "TITHON_KERNEL_TRANSPORT";
impl Session {
    /// How a kernel that is about to start is to be reached.
    pub(super) fn new_connection(
        &self,
        launch: &Launch,
        env: &BTreeMap<String, String>,
    ) -> io::Result<ConnectionFile> {
        let wish = launch.env.get(TRANSPORT).or(env.get(TRANSPORT));
        if wish.is_some_and(|wish| wish == "tcp") && !launch.under_launcher() {
            let ip = Ipv4Addr::LOCALHOST.to_string();
            return connection("tcp", ip, free_ports()?, &launch.kernel_name);
        }
        let endpoint = self.place.home.kernel_endpoint(&self.place.key);
        ipc(&endpoint, &launch.kernel_name)
    }
}

/// How a kernel is reached whose sockets begin with a path; with a key of its own.
pub(super) fn ipc(endpoint: &Path, kernel_name: &str) -> io::Result<ConnectionFile> {
    let ip = endpoint.to_string_lossy().into_owned();
    connection("ipc", ip, PORTS, kernel_name)
}

fn connection(
    transport: &str,
    ip: String,
    ports: [u16; 5],
    kernel_name: &str,
) -> io::Result<ConnectionFile> {
    let mut key = [0; 32];
    fs::File::open("/dev/urandom")
        .and_then(|mut random| io::Read::read_exact(&mut random, &mut key))?;
    let [shell_port, iopub_port, stdin_port, control_port, hb_port] = ports;
    Ok(ConnectionFile {
        transport: transport.to_owned(),
        ip,
        shell_port,
        iopub_port,
        stdin_port,
        control_port,
        hb_port,
        signature_scheme: "hmac-sha256".to_owned(),
        key: tithon_ipc::ids::hex(&key),
        kernel_name: kernel_name.to_owned(),
    })
}

/// Removes the sockets that a kernel left whose sockets begin with a path.
pub(super) fn remove(endpoint: &Path) {
    // The launcher has one more beside iopub's, for what forked children say.
    let of_children = format!("{}f", PORTS[1]);
    for port in PORTS
        .map(|port| port.to_string())
        .iter()
        .chain([&of_children])
    {
        // Gone already after an orderly end.
        fs::remove_file(format!("{}-{port}", endpoint.display())).ok();
    }
}

/// Ports that nobody has now; as with every Jupyter kernel, somebody may take one before it does.
fn free_ports() -> io::Result<[u16; 5]> {
    // All held until all are chosen, or one might be chosen twice.
    let held: Vec<TcpListener> = (0..PORTS.len())
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<io::Result<_>>()?;
    let mut ports = [0; 5];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
