//! One run of QEMU's `virt` machine: configuration and consoles. Every machine ends: it is killed at its deadline
//! and when it is dropped.

mod outcome;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::images;

pub use outcome::{End, Outcome};

/// Address at which QEMU's guest-loader loads the host's kernel.
pub const HOST_KERNEL_ADDRESS: u64 = 0x4900_0000;
/// Address of the host's initrd, unless the kernel extends beyond it.
pub const HOST_INITRD_ADDRESS: u64 = 0x4d00_0000;
const ALIGN: u64 = 0x20_0000;
const POLL: Duration = Duration::from_millis(10);

/// The kernel that EL2 boots as its host, as boot modules.
#[derive(Clone, Debug)]
pub struct HostModules {
    /// An arm64 Image.
    pub kernel: PathBuf,
    /// A ramdisk for it.
    pub initrd: Option<PathBuf>,
    /// The host's own command line.
    pub bootargs: String,
}

/// A machine to run. The fields are QEMU's own options of the same names.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The QEMU program.
    pub qemu: PathBuf,
    /// `-machine`.
    pub machine: String,
    /// `-cpu`.
    pub cpu: String,
    /// `-smp`.
    pub smp: u32,
    /// `-m`, with QEMU's suffixes.
    pub mem: String,
    /// `-kernel`.
    pub kernel: Option<PathBuf>,
    /// `-initrd`.
    pub initrd: Option<PathBuf>,
    /// `-append`.
    pub append: String,
    /// Everything else, in order.
    pub args: Vec<OsString>,
    /// The serial ports.
    pub serials: Serials,
}

/// The serial ports of a machine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Serials {
    /// One port, the host's.
    Host,
    /// Two ports: the host's, then EL2's.
    HostAndEl2,
    /// One port, which EL2 and the host share: both consoles have the same text.
    Shared,
    /// As `HostAndEl2`, with the host's console on the user's terminal.
    InteractiveHostAndEl2,
    /// As `Host`, on the user's terminal.
    InteractiveHost,
}

impl Machine {
    /// The default machine of the tests: GICv3, one SMMU, EL2 present, two serial ports, no network card, no display.
    #[must_use]
    pub fn new(qemu: &Path) -> Self {
        Self {
            qemu: qemu.to_owned(),
            machine: "virt,gic-version=3,iommu=smmuv3,virtualization=on".to_owned(),
            cpu: "max".to_owned(),
            smp: 1,
            mem: "1G".to_owned(),
            kernel: None,
            initrd: None,
            append: String::new(),
            args: Vec::new(),
            serials: Serials::HostAndEl2,
        }
    }

    /// Boots `hyp` (an arm64 Image) at EL2 with a host. EL2 prints `token` on its own console; the host cannot read it.
    ///
    /// # Errors
    /// When the host's kernel cannot be read to compute the address of its initrd.
    pub fn boot_el2(&mut self, hyp: &Path, token: &str, host: Option<&HostModules>) -> Result<()> {
        self.kernel = Some(hyp.to_owned());
        self.append = format!("token={token}");
        let Some(host) = host else { return Ok(()) };
        self.device(&format!(
            "guest-loader,addr={HOST_KERNEL_ADDRESS:#x},kernel={},bootargs={}",
            escape(&host.kernel.display().to_string()),
            escape(&host.bootargs)
        ));
        if let Some(initrd) = &host.initrd {
            let address = initrd_address(images::image_extent(&host.kernel)?);
            self.device(&format!("guest-loader,addr={address:#x},initrd={}", escape(&initrd.display().to_string())));
        }
        Ok(())
    }

    /// Boots with the device tree in `tree`, which describes the host's modules: they are loaded, and QEMU adds no nodes.
    pub fn boot_with_tree(&mut self, tree: &Path) {
        for arg in &mut self.args {
            if let Some(raw) = arg.to_str().and_then(raw_loader) {
                *arg = raw.into();
            }
        }
        self.arg("-dtb").arg(tree);
    }

    /// Adds one argument.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds `-device` and its value.
    pub fn device(&mut self, value: &str) -> &mut Self {
        self.arg("-device").arg(value)
    }

    /// The whole command line; consoles are files in `dir`.
    fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(&self.qemu);
        command
            .args(["-machine", &self.machine, "-cpu", &self.cpu])
            .args(["-smp", &self.smp.to_string(), "-m", &self.mem])
            .args(["-no-reboot", "-display", "none", "-monitor", "none"])
            .args(["-semihosting-config", "enable=on,target=native"])
            .args(["-nic", "none"]);
        let file = |name: &str| format!("file:{}", escape(&dir.join(name).display().to_string()));
        let host = match self.serials {
            Serials::Host | Serials::HostAndEl2 | Serials::Shared => file(HOST_LOG),
            Serials::InteractiveHost | Serials::InteractiveHostAndEl2 => "mon:stdio".to_owned(),
        };
        command.args(["-serial", &host]);
        match self.serials {
            Serials::HostAndEl2 | Serials::InteractiveHostAndEl2 => {
                command.args(["-serial", &file(EL2_LOG)]);
            }
            Serials::Host | Serials::InteractiveHost | Serials::Shared => {}
        }
        if let Some(kernel) = &self.kernel {
            command.arg("-kernel").arg(kernel);
        }
        if let Some(initrd) = &self.initrd {
            command.arg("-initrd").arg(initrd);
        }
        if !self.append.is_empty() {
            command.args(["-append", &self.append]);
        }
        command.args(&self.args);
        command
    }

    /// Starts the machine; its consoles become files in `dir`, which is created; consoles of an earlier run are
    /// removed.
    ///
    /// # Errors
    /// When the folder cannot be written or QEMU cannot be started.
    pub fn start(&self, dir: &Path) -> Result<Running> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for name in [HOST_LOG, EL2_LOG, QEMU_LOG] {
            let path = dir.join(name);
            if path.exists() {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        let messages = File::create(dir.join(QEMU_LOG))?;
        let mut command = self.command(dir);
        match self.serials {
            Serials::Host | Serials::HostAndEl2 | Serials::Shared => {
                command.stdin(Stdio::null()).stdout(messages.try_clone()?);
            }
            Serials::InteractiveHost | Serials::InteractiveHostAndEl2 => {}
        }
        let child =
            command.stderr(messages).spawn().with_context(|| format!("cannot start {}", self.qemu.display()))?;
        let el2_log = if self.serials == Serials::Shared { HOST_LOG } else { EL2_LOG };
        Ok(Running { child, dir: dir.to_owned(), el2_log, started: Instant::now() })
    }

    /// Runs the machine to its end or to the deadline, whichever is first.
    ///
    /// # Errors
    /// As [`Machine::start`]; a machine that is killed at its deadline is an
    /// [`Outcome`], not an error.
    pub fn run(&self, dir: &Path, deadline: Duration) -> Result<Outcome> {
        self.start(dir)?.wait(deadline)
    }
}

const HOST_LOG: &str = "host.log";
const EL2_LOG: &str = "el2.log";
const QEMU_LOG: &str = "qemu.log";

/// The host's output so far, of the machine with consoles in `dir`; empty if there is none.
#[must_use]
pub fn host_console(dir: &Path) -> String {
    read_log(&dir.join(HOST_LOG))
}

/// A running machine. Dropping it kills the machine.
#[derive(Debug)]
pub struct Running {
    child: Child,
    dir: PathBuf,
    el2_log: &'static str,
    started: Instant,
}

impl Running {
    /// The host's output so far.
    #[must_use]
    pub fn host_console(&self) -> String {
        host_console(&self.dir)
    }

    /// Waits for the machine's end, killing it when `deadline` has passed since its
    /// start.
    ///
    /// # Errors
    /// When the state of the process cannot be read.
    pub fn wait(mut self, deadline: Duration) -> Result<Outcome> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break Some(status);
            }
            if self.started.elapsed() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                break None;
            }
            thread::sleep(POLL);
        };
        let end = match status {
            Some(status) => End::Exited(status),
            None => End::Killed(deadline),
        };
        Ok(Outcome {
            end,
            took: self.started.elapsed(),
            host_console: read_log(&self.dir.join(HOST_LOG)),
            el2_console: read_log(&self.dir.join(self.el2_log)),
            qemu_messages: read_log(&self.dir.join(QEMU_LOG)),
            dir: self.dir.clone(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error of kill is ignored.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A token that only EL2 and the runner know: 128 random bits in hexadecimal.
///
/// # Errors
/// When the system's random source cannot be read.
pub fn fresh_token() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The lowest address for an initrd after a kernel of this size.
fn initrd_address(kernel_extent: u64) -> u64 {
    let end = HOST_KERNEL_ADDRESS.saturating_add(kernel_extent).next_multiple_of(ALIGN);
    end.max(HOST_INITRD_ADDRESS)
}

/// QEMU separates options by commas; one inside a value is written twice.
fn escape(value: &str) -> String {
    value.replace(',', ",,")
}

/// The device that loads the same file to the same address as a `guest-loader`.
fn raw_loader(device: &str) -> Option<String> {
    let (addr, file) = device.strip_prefix("guest-loader,")?.split_once(',')?;
    let file = file.strip_prefix("kernel=").or_else(|| file.strip_prefix("initrd="))?;
    let file = file.split_once(",bootargs=").map_or(file, |(file, _)| file);
    Some(format!("loader,{addr},file={file},force-raw=on"))
}

fn read_log(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\r', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stand-in for QEMU: a shell that ignores the machine's arguments.
    fn machine(script: &str, dir: &Path) -> Result<Machine> {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir_all(dir)?;
        let path = dir.join("fake-qemu");
        fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Machine::new(&path))
    }

    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("portcullis-qemu-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_machine_that_hangs_is_killed_at_its_deadline() -> Result<()> {
        let dir = scratch("hang");
        let outcome = machine("exec sleep 60", &dir)?.run(&dir, Duration::from_millis(200))?;
        assert!(matches!(outcome.end, End::Killed(_)));
        assert!(outcome.took < Duration::from_secs(20));
        assert!(outcome.require_clean_exit().is_err());
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    #[test]
    fn a_failing_qemu_is_reported_with_its_output() -> Result<()> {
        let dir = scratch("fail");
        let outcome = machine("echo no such device >&2; exit 7", &dir)?.run(&dir, Duration::from_secs(20))?;
        let text = outcome.require_clean_exit().err().map(|error| error.to_string());
        assert!(text.is_some_and(|text| text.contains("no such device") && text.contains('7')));
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    #[test]
    fn commas_in_the_hosts_command_line_are_kept() -> Result<()> {
        let mut machine = Machine::new(Path::new("q"));
        let host =
            HostModules { kernel: PathBuf::from("/k"), initrd: None, bootargs: "console=ttyAMA0,115200".to_owned() };
        machine.boot_el2(Path::new("/hyp"), "00", Some(&host))?;
        let value = machine.args.last().map(|arg| arg.to_string_lossy().into_owned());
        assert!(value.is_some_and(|value| value.ends_with("bootargs=console=ttyAMA0,,115200")));
        Ok(())
    }

    #[test]
    fn a_machine_with_a_tree_of_its_own_loads_the_same_files() -> Result<()> {
        let mut machine = Machine::new(Path::new("q"));
        let host = HostModules { kernel: PathBuf::from("/a,b"), initrd: None, bootargs: "x,bootargs=y".to_owned() };
        machine.boot_el2(Path::new("/hyp"), "00", Some(&host))?;
        machine.device("guest-loader,addr=0x1,initrd=/c").boot_with_tree(Path::new("/t"));
        let args: Vec<_> = machine.args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
        let loaders = ["loader,addr=0x49000000,file=/a,,b,force-raw=on", "loader,addr=0x1,file=/c,force-raw=on"];
        assert_eq!(args, ["-device", loaders[0], "-device", loaders[1], "-dtb", "/t"]);
        Ok(())
    }

    #[test]
    fn the_initrd_is_after_a_large_kernel() {
        assert_eq!(initrd_address(1), HOST_INITRD_ADDRESS);
        assert_eq!(initrd_address(0x500_0001), 0x4e20_0000);
    }

    #[test]
    fn tokens_differ() -> Result<()> {
        let token = fresh_token()?;
        assert_eq!(token.len(), 32);
        assert_ne!(token, fresh_token()?);
        Ok(())
    }
}
