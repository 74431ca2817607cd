"""How Jupyter starts a kernel of a book that is being built: as a fork, where there is a process that kernels are forks of."""

import os

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import LocalProvisioner

from lmclib.book.forked import DOOR, ForkedKernel


class ForkProvisioner(LocalProvisioner):
    """Jupyter's own provisioner, but that kernels of Python are asked for at the door that the environment names."""

    async def launch_kernel(self, cmd: list[str], **kwargs: object) -> KernelConnectionInfo:
        """Start a kernel; in the usual way where nobody is at the door, or where the kernel is started in another way than Python's."""
        environment = {**(kwargs.get("env") or os.environ)}
        door = environment.pop(DOOR, None)
        if door is None or cmd[1:2] != ["-m"]:
            return await super().launch_kernel(cmd, **kwargs)
        environment.pop("JPY_PARENT_PID", None)  # it is no child of this process, and ends with it all the same
        self.cwd = str(kwargs.get("cwd") or os.getcwd())
        try:
            self.process = ForkedKernel(door, cmd, environment, self.cwd)
        except OSError:
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        return self.connection_info
