//! A network of the hosts: each in a namespace of its own, on a wire to a bridge in the test's namespace.
//!
//! The gateway and the clients are in the test's namespace, so a host can be cut off from its peers, from the gateway,
//! or from both, and in one direction alone. A cut is a firewall rule that drops packets without a word, which is what a
//! broken network does; connections stay open until somebody's patience ends.

use anyhow::Result;

use super::tools::tool_line;

/// The address of the test's own namespace on the bridge, where the gateway is.
pub const EDGE: &str = "10.77.0.254";
const PORT: u16 = 7100;

#[derive(Debug)]
pub struct Network {
    hosts: usize,
}

impl Network {
    /// Plugs it together. The namespace it is made in must be the test's own.
    pub fn new(hosts: usize) -> Result<Network> {
        tool_line("ip link add switch type bridge")?;
        tool_line(&format!("ip address add {EDGE}/24 dev switch"))?;
        tool_line("ip link set switch up")?;
        for index in 0..hosts {
            let (name, address) = (namespace(index), ip(index));
            tool_line(&format!("ip netns add {name}"))?;
            tool_line(&format!("ip link add wire-{index} type veth peer name eth0 netns {name}"))?;
            tool_line(&format!("ip link set wire-{index} master switch up"))?;
            tool_line(&format!("ip -n {name} address add {address}/24 dev eth0"))?;
            tool_line(&format!("ip -n {name} link set eth0 up"))?;
            tool_line(&format!("ip -n {name} link set lo up"))?;
        }
        Ok(Network { hosts })
    }

    /// Where a host listens.
    pub fn address(&self, index: usize) -> String {
        format!("{}:{PORT}", ip(index))
    }

    /// What runs a command where the host is. Not `ip netns exec`: that takes a copy of all mounts along, which keeps
    /// the disks of other hosts in use.
    pub fn inside(&self, index: usize) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net=/run/netns/{}", namespace(index)), "--".to_owned()]
    }

    /// Nothing reaches the host, and nothing comes from it.
    pub fn isolate(&self, index: usize) -> Result<()> {
        firewall(index, "--append INPUT --in-interface eth0 --jump DROP")?;
        firewall(index, "--append OUTPUT --out-interface eth0 --jump DROP")
    }

    /// The gateway still reaches the host, and its peers do not, nor it them.
    pub fn isolate_from_peers(&self, index: usize) -> Result<()> {
        for peer in (0..self.hosts).filter(|peer| *peer != index) {
            self.cut_one_way(peer, index)?;
            self.cut_one_way(index, peer)?;
        }
        Ok(())
    }

    /// What `from` sends does not reach `to`; what `to` sends still reaches `from`.
    pub fn cut_one_way(&self, from: usize, to: usize) -> Result<()> {
        firewall(to, &format!("--append INPUT --source {} --jump DROP", ip(from)))
    }

    /// Ends all cuts.
    pub fn heal(&self) -> Result<()> {
        (0..self.hosts).try_for_each(|index| firewall(index, "--flush"))
    }

    /// Packets that rules of a host have dropped: proof that a cut was one.
    pub fn dropped(&self, index: usize) -> Result<u64> {
        let name = namespace(index);
        let rules = tool_line(&format!("nsenter --net=/run/netns/{name} -- iptables --wait --list --verbose --exact"))?;
        let of_rule = |line: &str| {
            let mut words = line.split_whitespace();
            let packets = words.next()?.parse::<u64>().ok()?;
            (words.nth(1)? == "DROP").then_some(packets)
        };
        Ok(rules.lines().filter_map(of_rule).sum())
    }
}

fn firewall(index: usize, rule: &str) -> Result<()> {
    let name = namespace(index);
    tool_line(&format!("nsenter --net=/run/netns/{name} -- iptables --wait {rule}")).map(drop)
}

fn namespace(index: usize) -> String {
    format!("host-{index}")
}

fn ip(index: usize) -> String {
    format!("10.77.0.{}", index + 1)
}
