//! The programs' own account of the records that they made, read from their map while nattrace and after it is gone:
//! each of them must have been told, or be counted as lost.

use anyhow::{Context, Result};
use aya::maps::{Map, MapData, MapInfo, PerCpuArray};
use nattrace_common::record::{LOST_NFT, LOST_PROBES, LOST_TRACEPOINTS, Lost};
use serde_json::Value;

/// The map's name.
const ACCOUNTS: &str = "LOST";

/// The counters of one nattrace; they live as long as this.
pub(super) struct Accounts(PerCpuArray<MapData, Lost>);

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(ACCOUNTS)
    }
}

impl Accounts {
    /// Those of process `pid`; nothing where it has none, without programs that is, or is gone.
    pub(super) fn of(pid: u32) -> Result<Option<Self>> {
        let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return Ok(None) };
        for entry in entries.flatten() {
            // A descriptor may be closed meanwhile.
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let id = text.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok());
            let Some(id) = id else { continue };
            if MapInfo::from_id(id).is_ok_and(|info| info.name_as_str() == Some(ACCOUNTS)) {
                let map = Map::from_map_data(MapData::from_id(id)?)?;
                return Ok(Some(Self(PerCpuArray::try_from(map).context("the counters of records")?)));
            }
        }
        Ok(None)
    }

    /// What does not add up with the summary.
    pub(super) fn complaints(&self, summary: &Value) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for (index, name) in [(LOST_PROBES, "probes"), (LOST_TRACEPOINTS, "tracepoints"), (LOST_NFT, "nft")] {
            let (mut begun, mut lost) = (0, 0);
            for one in self.0.get(&index, 0)?.iter() {
                begun += one.begun;
                lost += one.count;
            }
            let told = |key: &str| summary["sources"][name][key].as_u64().unwrap_or(0);
            if told("received") + lost != begun || told("lost") < lost {
                found.push(format!(
                    "{name}: the programs made {begun} records, {lost} of them found no room; told are {} received \
                     and {} lost",
                    told("received"),
                    told("lost")
                ));
            }
        }
        Ok(found)
    }
}
