//! A web server: nginx, or Python's where there is no nginx.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{Transport, ready};
use crate::netns::Namespace;
use crate::process::{Guard, tool};

/// A web server of static files.
#[derive(Debug)]
pub struct Http {
    server: Guard,
    folder: TempDir,
}

impl Http {
    /// What it serves as `/`.
    pub const GREETING: &str = "leuko lab\n";

    /// Serves on all addresses of a namespace.
    ///
    /// # Errors
    /// When neither nginx nor Python is there, or the port is taken.
    pub fn start(namespace: &Namespace, port: u16) -> Result<Self> {
        let folder = TempDir::with_prefix("leuko-http-").context("make a folder")?;
        let root = folder.path().join("www");
        fs::create_dir(&root)?;
        fs::write(root.join("index.html"), Self::GREETING)?;
        let mut server = if tool("nginx").is_ok() {
            let config = folder.path().join("nginx.conf");
            fs::write(&config, nginx_config(folder.path(), port))?;
            let (prefix, config) = (folder.path().to_string_lossy(), config.to_string_lossy());
            namespace.spawn("nginx", &["-p", &prefix, "-c", &config, "-e", "stderr"])?
        } else {
            let root = root.to_string_lossy();
            namespace.spawn("python3", &["-m", "http.server", &port.to_string(), "--directory", &root])?
        };
        ready(&mut server, namespace, Transport::Tcp, port)?;
        Ok(Self { server, folder })
    }

    /// The folder of the files it serves.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("www")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Guard {
        &mut self.server
    }
}

/// The workers are root too: nobody else can read a folder for temporary files.
fn nginx_config(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  server {{
    listen {port};
    listen [::]:{port};
    root {folder}/www;
  }}
}}
"
    )
}
