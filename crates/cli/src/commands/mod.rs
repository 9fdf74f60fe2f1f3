//! The commands: one file each, and the table of their words.

mod attach;
mod autostart;
mod checkpoint;
mod commit;
mod completion;
mod container_config;
mod container_flags;
mod context;
mod cp;
mod create;
mod df;
mod dial_stdio;
mod diff;
mod each;
mod events;
mod exec;
mod history;
mod images;
mod info;
mod inspect;
mod login;
mod logs;
mod man;
mod manifest;
mod network;
mod plugin;
mod port;
mod prune;
mod ps;
mod pull;
mod push;
mod rm;
mod rmi;
mod run;
mod search;
mod simple;
mod start;
mod stats;
mod tag;
mod top;
mod transfer;
mod update;
mod version;
mod volume;
mod wait;

use crate::registry::{Arity, Entry, Group};

/// Words with commands below them.
pub const GROUPS: &[Group] = &[
    Group {
        name: "checkpoint",
        about: "Manage checkpoints",
        hidden: false,
    },
    Group {
        name: "container",
        about: "Manage containers",
        hidden: false,
    },
    Group {
        name: "context",
        about: "Manage contexts",
        hidden: false,
    },
    Group {
        name: "image",
        about: "Manage images",
        hidden: false,
    },
    Group {
        name: "manifest",
        about: "Manage Docker image manifests and manifest lists",
        hidden: false,
    },
    Group {
        name: "network",
        about: "Manage networks",
        hidden: false,
    },
    Group {
        name: "plugin",
        about: "Manage plugins",
        hidden: false,
    },
    Group {
        name: "system",
        about: "Manage Docker",
        hidden: false,
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        hidden: false,
    },
];

const MANY: &str = "[OPTIONS] CONTAINER [CONTAINER...]";

/// All commands.
pub const ENTRIES: &[Entry] = &[
    Entry::new::<attach::Attach>(
        &["container attach", "attach"],
        "[OPTIONS] CONTAINER",
        "Attach local standard input, output, and error streams to a running container",
        Arity::Exactly(1),
    ),
    Entry::new::<create::Create>(
        &["container create", "create"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        Arity::AtLeast(1),
    )
    .flags_first(),
    Entry::new::<exec::Exec>(
        &["container exec", "exec"],
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Execute a command in a running container",
        Arity::AtLeast(2),
    )
    .flags_first(),
    Entry::new::<images::Images>(
        &["image ls", "image list", "images"],
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        Arity::AtMost(1),
    ),
    Entry::new::<info::Info>(
        &["system info", "info"],
        "[OPTIONS]",
        "Display system-wide information",
        Arity::None,
    ),
    Entry::new::<inspect::Inspect>(
        &["inspect"],
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on Docker objects",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::ContainerInspect>(
        &["container inspect"],
        MANY,
        "Display detailed information on one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::ImageInspect>(
        &["image inspect"],
        "[OPTIONS] IMAGE [IMAGE...]",
        "Display detailed information on one or more images",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::NetworkInspect>(
        &["network inspect"],
        "[OPTIONS] NETWORK [NETWORK...]",
        "Display detailed information on one or more networks",
        Arity::AtLeast(1),
    ),
    Entry::new::<inspect::VolumeInspect>(
        &["volume inspect"],
        "[OPTIONS] VOLUME [VOLUME...]",
        "Display detailed information on one or more volumes",
        Arity::AtLeast(1),
    ),
    Entry::new::<simple::Kill>(
        &["container kill", "kill"],
        MANY,
        "Kill one or more running containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<logs::Logs>(
        &["container logs", "logs"],
        "[OPTIONS] CONTAINER",
        "Fetch the logs of a container",
        Arity::Exactly(1),
    ),
    Entry::new::<simple::Pause>(
        &["container pause", "pause"],
        "CONTAINER [CONTAINER...]",
        "Pause all processes within one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<ps::Ps>(
        &["container ls", "container list", "container ps", "ps"],
        "[OPTIONS]",
        "List containers",
        Arity::None,
    ),
    Entry::new::<pull::Pull>(
        &["image pull", "pull"],
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        Arity::Exactly(1),
    ),
    Entry::new::<simple::Rename>(
        &["container rename", "rename"],
        "CONTAINER NEW_NAME",
        "Rename a container",
        Arity::Exactly(2),
    ),
    Entry::new::<simple::Restart>(
        &["container restart", "restart"],
        MANY,
        "Restart one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<rm::Rm>(
        &["container rm", "container remove", "rm"],
        MANY,
        "Remove one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<run::Run>(
        &["container run", "run"],
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        Arity::AtLeast(1),
    )
    .flags_first(),
    Entry::new::<start::Start>(
        &["container start", "start"],
        MANY,
        "Start one or more stopped containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<simple::Stop>(
        &["container stop", "stop"],
        MANY,
        "Stop one or more running containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<simple::Unpause>(
        &["container unpause", "unpause"],
        "CONTAINER [CONTAINER...]",
        "Unpause all processes within one or more containers",
        Arity::AtLeast(1),
    ),
    Entry::new::<version::Version>(
        &["version"],
        "[OPTIONS]",
        "Show the Docker version information",
        Arity::None,
    ),
    Entry::new::<wait::Wait>(
        &["container wait", "wait"],
        "CONTAINER [CONTAINER...]",
        "Block until one or more containers stop, then print their exit codes",
        Arity::AtLeast(1),
    ),
    Entry::new::<autostart::Daemonize>(&["__daemonize"], "", "", Arity::AtLeast(0))
        .flags_first()
        .hidden(),
    Entry::new::<commit::Commit>(&["container commit", "commit"], "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Create a new image from a container's changes", Arity::Between(1, 2)).flags_first(),
    Entry::new::<cp::Cp>(&["container cp", "cp"], CP_USAGE, "Copy files/folders between a container and the local filesystem", Arity::Exactly(2)).long(CP_LONG),
    Entry::new::<diff::Diff>(&["container diff", "diff"], "CONTAINER", "Inspect changes to files or directories on a container's filesystem", Arity::Exactly(1)),
    Entry::new::<transfer::Export>(&["container export", "export"], "[OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive", Arity::Exactly(1)),
    Entry::new::<port::Port>(&["container port", "port"], "CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings or a specific mapping for the container", Arity::Between(1, 2)),
    Entry::new::<prune::ContainerPrune>(&["container prune"], "[OPTIONS]", "Remove all stopped containers", Arity::None),
    Entry::new::<stats::Stats>(&["container stats", "stats"], "[OPTIONS] [CONTAINER...]", "Display a live stream of container(s) resource usage statistics", Arity::AtLeast(0)),
    Entry::new::<top::Top>(&["container top", "top"], "CONTAINER [ps OPTIONS]", "Display the running processes of a container", Arity::AtLeast(1)).flags_first(),
    Entry::new::<update::Update>(&["container update", "update"], MANY, "Update configuration of one or more containers", Arity::AtLeast(1)),
    Entry::new::<history::History>(&["image history", "history"], "[OPTIONS] IMAGE", "Show the history of an image", Arity::Exactly(1)),
    Entry::new::<transfer::Import>(&["image import", "import"], "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]", "Import the contents from a tarball to create a filesystem image", Arity::AtLeast(1)),
    Entry::new::<transfer::Load>(&["image load", "load"], "[OPTIONS]", "Load an image from a tar archive or STDIN", Arity::None),
    Entry::new::<prune::ImagePrune>(&["image prune"], "[OPTIONS]", "Remove unused images", Arity::None),
    Entry::new::<push::Push>(&["image push", "push"], "[OPTIONS] NAME[:TAG]", "Upload an image to a registry", Arity::Exactly(1)),
    Entry::new::<rmi::Rmi>(&["image rm", "image remove", "rmi"], "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images", Arity::AtLeast(1)),
    Entry::new::<transfer::Save>(&["image save", "save"], "[OPTIONS] IMAGE [IMAGE...]", "Save one or more images to a tar archive (streamed to STDOUT by default)", Arity::AtLeast(1)),
    Entry::new::<tag::Tag>(&["image tag", "tag"], "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", Arity::Exactly(2)),
    Entry::new::<network::NetworkConnect>(&["network connect"], "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network", Arity::Exactly(2)),
    Entry::new::<network::NetworkCreate>(&["network create"], "[OPTIONS] NETWORK", "Create a network", Arity::Exactly(1)),
    Entry::new::<network::NetworkDisconnect>(&["network disconnect"], "[OPTIONS] NETWORK CONTAINER", "Disconnect a container from a network", Arity::Exactly(2)),
    Entry::new::<network::NetworkLs>(&["network ls", "network list"], "[OPTIONS]", "List networks", Arity::None),
    Entry::new::<prune::NetworkPrune>(&["network prune"], "[OPTIONS]", "Remove all unused networks", Arity::None),
    Entry::new::<network::NetworkRm>(&["network rm", "network remove"], "NETWORK [NETWORK...]", "Remove one or more networks", Arity::AtLeast(1)),
    Entry::new::<checkpoint::CheckpointCreate>(&["checkpoint create"], "[OPTIONS] CONTAINER CHECKPOINT", "Create a checkpoint from a running container", Arity::Exactly(2)),
    Entry::new::<checkpoint::CheckpointLs>(&["checkpoint ls", "checkpoint list"], "[OPTIONS] CONTAINER", "List checkpoints for a container", Arity::Exactly(1)),
    Entry::new::<checkpoint::CheckpointRm>(&["checkpoint rm", "checkpoint remove"], "[OPTIONS] CONTAINER CHECKPOINT", "Remove a checkpoint", Arity::Exactly(2)),
    Entry::new::<volume::VolumeCreate>(&["volume create"], "[OPTIONS] [VOLUME]", "Create a volume", Arity::AtMost(1)),
    Entry::new::<volume::VolumeLs>(&["volume ls", "volume list"], "[OPTIONS]", "List volumes", Arity::None),
    Entry::new::<prune::VolumePrune>(&["volume prune"], "[OPTIONS]", "Remove unused local volumes", Arity::None),
    Entry::new::<volume::VolumeRm>(&["volume rm", "volume remove"], "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes", Arity::AtLeast(1))
        .long("Remove one or more volumes. You cannot remove a volume that is in use by a container."),
    Entry::new::<df::SystemDf>(&["system df"], "[OPTIONS]", "Show docker disk usage", Arity::None),
    Entry::new::<events::Events>(&["system events", "events"], "[OPTIONS]", "Get real time events from the server", Arity::None),
    Entry::new::<prune::SystemPrune>(&["system prune"], "[OPTIONS]", "Remove unused data", Arity::None),
    Entry::new::<dial_stdio::DialStdio>(&["system dial-stdio"], "", "Proxy the stdio stream to the daemon connection. Should not be invoked manually.", Arity::None).hidden(),
    Entry::new::<login::Login>(&["login"], "[OPTIONS] [SERVER]", "Authenticate to a registry", Arity::AtMost(1)).long("Authenticate to a registry.\nDefaults to Docker Hub if no server is specified."),
    Entry::new::<login::Logout>(&["logout"], "[SERVER]", "Log out from a registry", Arity::AtMost(1)).long("Log out from a registry.\nIf no server is specified, the default is defined by the daemon."),
    Entry::new::<manifest::Annotate>(&["manifest annotate"], "[OPTIONS] MANIFEST_LIST MANIFEST", "Add additional information to a local image manifest", Arity::Exactly(2)),
    Entry::new::<manifest::Create>(&["manifest create"], "MANIFEST_LIST MANIFEST [MANIFEST...]", "Create a local manifest list for annotating and pushing to a registry", Arity::AtLeast(2)),
    Entry::new::<manifest::Inspect>(&["manifest inspect"], "[OPTIONS] [MANIFEST_LIST] MANIFEST", "Display an image manifest, or manifest list", Arity::Between(1, 2)),
    Entry::new::<manifest::Push>(&["manifest push"], "[OPTIONS] MANIFEST_LIST", "Push a manifest list to a repository", Arity::Exactly(1)),
    Entry::new::<manifest::Rm>(&["manifest rm"], "MANIFEST_LIST [MANIFEST_LIST...]", "Delete one or more manifest lists from local storage", Arity::AtLeast(1)),
    Entry::new::<search::Search>(&["search"], "[OPTIONS] TERM", "Search Docker Hub for images", Arity::Exactly(1)),
    Entry::new::<plugin::PluginLs>(&["plugin ls", "plugin list"], "[OPTIONS]", "List plugins", Arity::None),
    Entry::new::<inspect::PluginInspect>(&["plugin inspect"], "[OPTIONS] PLUGIN [PLUGIN...]", "Display detailed information on one or more plugins", Arity::AtLeast(1)),
    Entry::new::<context::ContextCreate>(&["context create"], "[OPTIONS] CONTEXT", "Create a context", Arity::Exactly(1)).long(CONTEXT_CREATE_LONG),
    Entry::new::<context::ContextExport>(&["context export"], "[OPTIONS] CONTEXT [FILE|-]", "Export a context to a tar archive FILE or a tar stream on STDOUT.", Arity::Between(1, 2)),
    Entry::new::<context::ContextImport>(&["context import"], "CONTEXT FILE|-", "Import a context from a tar or zip file", Arity::Exactly(2)),
    Entry::new::<context::ContextInspect>(&["context inspect"], "[OPTIONS] [CONTEXT] [CONTEXT...]", "Display detailed information on one or more contexts", Arity::AtLeast(0)),
    Entry::new::<context::ContextLs>(&["context ls", "context list"], "[OPTIONS]", "List contexts", Arity::None),
    Entry::new::<context::ContextRm>(&["context rm", "context remove"], "CONTEXT [CONTEXT...]", "Remove one or more contexts", Arity::AtLeast(1)),
    Entry::new::<context::ContextShow>(&["context show"], "", "Print the name of the current context", Arity::None),
    Entry::new::<context::ContextUpdate>(&["context update"], "[OPTIONS] CONTEXT", "Update a context", Arity::Exactly(1)).long(CONTEXT_UPDATE_LONG),
    Entry::new::<context::ContextUse>(&["context use"], "CONTEXT", "Set the current docker context", Arity::Exactly(1)),
    Entry::new::<completion::Completion>(&["completion"], "SHELL", "Generate the autocompletion script for a shell (bash, zsh, fish)", Arity::Exactly(1)),
    Entry::new::<completion::Complete>(&["__complete"], "", "", Arity::AtLeast(0)).flags_first().hidden(),
    Entry::new::<man::Man>(&["__man"], "DIR", "", Arity::Exactly(1)).hidden(),
];

const CP_USAGE: &str = "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-
\t@BIN@ cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH";

const CP_LONG: &str = "Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.";

const CONTEXT_CREATE_LONG: &str = "Create a context

Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ docker context create my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"";

const CONTEXT_UPDATE_LONG: &str = "Update a context

Docker endpoint config:

NAME                DESCRIPTION
from                Copy named context's Docker endpoint configuration
host                Docker endpoint on which to connect
ca                  Trust certs signed only by this CA
cert                Path to TLS certificate file
key                 Path to TLS key file
skip-tls-verify     Skip TLS certificate validation

Example:

$ docker context update my-context --description \"some description\" --docker \"host=tcp://myserver:2376,ca=~/ca-file,cert=~/cert-file,key=~/key-file\"";
