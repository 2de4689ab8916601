"""What setup.cfg cannot say: of ``benchmarks/`` the grids are installed, the programs are not."""

from setuptools import setup
from setuptools.command.build_py import build_py


class WithoutPrograms(build_py):
    def find_package_modules(self, package, package_dir):
        return [] if package.endswith(".grids") else super().find_package_modules(package, package_dir)


setup(cmdclass={"build_py": WithoutPrograms})
