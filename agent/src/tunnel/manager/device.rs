//! The device: made where it is missing, with its MTU and its parameters, and up.

use tokio::time::Instant;

use super::{Manager, Seen};
use crate::{
    kernel::{self, Link},
    tunnel::{DEVICE, OVERHEAD},
};

impl Manager {
    /// Makes the device where it is not there, and sets it up. Returns it, and its MTU. An error means that there is no
    /// device to send through; what is less than that is only reported.
    pub(super) async fn bring_up(
        &mut self,
        seen: &Seen,
        report: &mut impl FnMut(String) -> bool,
    ) -> Result<(Link, u32), String> {
        let device = match seen.device() {
            Some(device) => device.clone(),
            None => self.make_device().await?,
        };
        let mtu = self.mtu(seen).unwrap_or(device.mtu);
        if mtu != device.mtu
            && let Err(error) = self.kernel.set_link_mtu(device.index, mtu).await
        {
            // It carries packets all the same.
            report(error.to_string());
        }
        if !self.prepared || !device.up {
            let prepared = kernel::prepare_tunnel(DEVICE);
            self.prepared = prepared.is_ok();
            if let Err(error) = prepared {
                report(error.to_string());
            }
        }
        if !device.up {
            self.settled_at = Some(Instant::now() + self.settings.settle);
            let set = self.kernel.set_link_up(device.index).await;
            set.map_err(|error| error.to_string())?;
        }
        self.running = true;
        Ok((device, mtu))
    }

    async fn make_device(&self) -> Result<Link, String> {
        match self.kernel.create_ipip(DEVICE).await {
            Ok(()) => {}
            Err(error) if error.is_unsupported() => {
                return Err(
                    "the kernel has no IPIP: run `modprobe ipip` on this node, or set ipipMode Never in every \
                     IPPool; until then routes that need it are left out"
                        .to_string(),
                );
            }
            Err(error) => return Err(error.to_string()),
        }
        match self.kernel.find_link(DEVICE).await {
            Ok(Some(device)) => Ok(device),
            Ok(None) => Err(format!("{DEVICE} was made and is not there")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn mtu(&self, seen: &Seen) -> Option<u32> {
        self.settings.mtu.or_else(|| {
            let own = seen.addresses.v4?;
            let (device, _) = seen.links.owner(own.addr().into())?;
            device.mtu.checked_sub(OVERHEAD)
        })
    }
}
