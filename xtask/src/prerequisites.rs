//! What a machine must have before `make test`: everything that is missing is said at once, with what it is for.
//!
//! Toolchains are the person's to install; Debian's packages are installed here.

use crate::{Outcome, paths, process};

/// Debian packages and what needs them.
const PACKAGES: [(&str, &str); 12] = [
    (
        "containerd",
        "the nodes of the test cluster run pods with it",
    ),
    ("runc", "containerd runs containers with it"),
    (
        "containernetworking-plugins",
        "pods get their network from it",
    ),
    (
        "iptables",
        "kube-proxy, and links that the tests of faults cut",
    ),
    ("conntrack", "kube-proxy"),
    ("socat", "kubectl port-forward"),
    (
        "iproute2",
        "the test cluster's network, and that of the tests of faults",
    ),
    ("e2fsprogs", "small disks, which the tests of faults fill"),
    ("procps", "the test cluster's scripts"),
    ("g++", "libFuzzer, which drives the fuzz targets"),
    ("busybox-static", "the shell of the pods that tests use"),
    ("kcat", "the client on librdkafka that tests produce with"),
];

/// Checks for the toolchains and installs the packages.
pub(crate) fn ensure() -> Outcome {
    let mut missing = Vec::new();
    let mut want = |there: bool, what: &str, why: &str| {
        if !there {
            missing.push(format!("  {what}: {why}"));
        }
    };
    let says = |program: &str, arguments: &[&str]| {
        process::output(process::command(program).args(arguments)).unwrap_or_default()
    };
    want(
        !says("cargo", &["fmt", "--version"]).is_empty(),
        "rustfmt",
        "`cargo xtask check` (rustup component add rustfmt)",
    );
    want(
        !says("cargo", &["clippy", "--version"]).is_empty(),
        "clippy",
        "`cargo xtask check` (rustup component add clippy)",
    );
    want(
        paths::program("cc").is_some(),
        "a C compiler and linker (cc)",
        "Rust links with it",
    );
    let go = says("go", &["env", "GOVERSION"]);
    want(
        at_least(go.trim_start_matches("go"), &[1, 24]),
        "Go 1.24 or newer",
        "the test cluster's Kubernetes is built from Go modules",
    );
    let java = says("javac", &["--version"]);
    want(
        at_least(java.trim_start_matches("javac "), &[17]),
        "a JDK 17 or newer",
        "Kafka's own tools and Java clients",
    );
    want(
        paths::program("mvn").is_some(),
        "Maven (mvn)",
        "it fetches Kafka's own tools and Java clients",
    );
    want(
        !says("npm", &["--version"]).is_empty(),
        "Node with npm",
        "the flights that the tests send are in an npm package",
    );
    let python = says(
        "python3",
        &[
            "-c",
            "import ensurepip, venv, platform; print(platform.python_version())",
        ],
    );
    want(
        at_least(&python, &[3, 9]),
        "Python 3.9 or newer with venv",
        "confluent-kafka, the client that tests consume with",
    );
    want(
        says("id", &["-u"]) == "0",
        "root",
        "the test cluster makes network and mount namespaces",
    );
    want(
        paths::program("apt-get").is_some(),
        "apt-get",
        "the test cluster takes containerd and more from Debian's packages",
    );
    if !missing.is_empty() {
        return Err(format!(
            "this machine lacks what the tests need:\n{}",
            missing.join("\n")
        )
        .into());
    }
    install()
}

fn install() -> Outcome {
    let lacking: Vec<_> = PACKAGES
        .iter()
        .filter(|(package, _)| !installed(package))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    for (package, why) in &lacking {
        println!("installing {package}: {why}");
    }
    process::run(process::command("apt-get").args(["update", "-qq"]))?;
    process::run(
        process::command("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(lacking.iter().map(|(package, _)| package))
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
}

fn installed(package: &str) -> bool {
    process::output(process::command("dpkg-query").args(["-W", "-f", "${Status}", package]))
        .is_ok_and(|status| status == "install ok installed")
}

/// Whether a dotted version is this one or newer; text that is no version is not.
fn at_least(version: &str, least: &[u32]) -> bool {
    let numbers: Vec<u32> = version
        .split(['.', '+', '-', ' '])
        .map_while(|part| {
            part.trim_end_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .ok()
        })
        .collect();
    !numbers.is_empty() && numbers.as_slice() >= least
}

#[cfg(test)]
mod tests {
    use super::at_least;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(at_least("1.24.0", &[1, 24]));
        assert!(at_least("1.100", &[1, 24]));
        assert!(at_least("17.0.15", &[17]));
        assert!(at_least("21-ea", &[17]));
        assert!(!at_least("1.9.9", &[1, 24]));
        assert!(!at_least("", &[3, 9]));
        assert!(!at_least("devel", &[1, 24]));
    }
}
