//! `routelet-cni`: a container runtime calls it with `CNI_COMMAND` in the environment and the network configuration
//! on standard input. See [`cni::plugin`].

fn main() -> std::process::ExitCode {
    cni::plugin::main()
}
