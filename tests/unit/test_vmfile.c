/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/vmfile.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

/* Owned: the problems of a text, or "" when it is fine. */
static char *
problems_of(const char *text, size_t len, enum backend backend)
{
	struct problems problems = { 0 };
	struct vmfile *vmfile = NULL;
	struct err err = ERR_INIT;
	char *out;

	if (vmfile_parse("/p/VMFile.yaml", text, len, backend, &vmfile, &problems, &err) == 0)
		ck_assert_uint_eq(problems.count, 0);
	else
		ck_assert_int_eq(err.code, E_VMFILE);
	out = problems_text(&problems, "/p/VMFile.yaml");
	problems_done(&problems);
	vmfile_destroy(vmfile);
	return out;
}

static struct vmfile *
good(const char *text)
{
	struct problems problems = { 0 };
	struct vmfile *vmfile = NULL;
	struct err err = ERR_INIT;
	int rc = vmfile_parse(
	    "/p/VMFile.yaml", text, strlen(text), BACKEND_DEFAULT, &vmfile, &problems, &err);
	CLEANUP_FREE char *words = problems_text(&problems, "VMFile.yaml");

	ck_assert_msg(rc == 0, "%s", words);
	problems_done(&problems);
	return vmfile;
}

#define VM "vms:\n  web:\n    image: a.img\n"
#define F "VMFile.yaml:"

/* clang-format off */
static const struct {
	const char *text, *want;
} bad_files[] = {
	/* the whole file */
	{ "", F " the file has no machines\n" },
	{ "# only words\n", F " the file has no machines\n" },
	{ "vms:\n", F "1:5: the file has no machines\n" },
	{ "vms: {}\n", F "1:6: the file has no machines\n" },
	{ "- a\n", F "1:1: the file must be a mapping with the key 'vms'\n" },
	{ "vms: [a]\n", F "1:6: 'vms' must be a mapping of names to machines (write a line 'name:' for each machine, with its settings below it)\n" },
	{ VM "vm: 1\n", F "4:1: unknown key 'vm' (did you mean 'vms'?)\n" },
	{ VM "version: 3\n", F "4:1: unknown key 'version' (known here: vms, networks)\n" },
	{ VM "---\nvms: {}\n", F "4:1: the file holds several documents; there must be one\n" },
	{ VM "    memory: \xff\n", F "4:13: is not valid UTF-8 (save the file as UTF-8)\n" },
	{ "vms:\n  w\xc3\xa4" "b:\n    image: \xc3\xa4\xff\n", F "3:13: is not valid UTF-8 (save the file as UTF-8)\n" },
	{ VM "\tvcpus: 2\n", F "4:1: not valid YAML: found a tab character that violates indentation while scanning a plain scalar (indent with spaces, YAML takes no tabs there)\n" },
	{ VM "    disk: \"\n", F "5:1: not valid YAML: found unexpected end of stream while scanning a quoted scalar\n" },
	{ VM "    ssh: {user: a\x01" "b}\n", F "4:18: not valid YAML: control characters are not allowed\n" },

	/* keys */
	{ "vms:\n  web:\n    image: a\n    vcpu: 2\n", F "4:5: unknown key 'vcpu' (did you mean 'vcpus'?)\n" },
	{ VM "    cloud_init: {}\n", F "4:5: unknown key 'cloud_init' (did you mean 'cloud-init'?)\n" },
	{ VM "    name: x\n", F "4:5: unknown key 'name' (the machine's name is its key under 'vms')\n" },
	{ VM "    image-url: https://x/y\n", F "4:5: 'image-url' means the same as 'image' in line 3 (give one of them)\n" },
	{ "vms:\n  web:\n    image-url: https://x/y\n    image: a\n", F "4:5: 'image' means the same as 'image-url' in line 3 (give one of them)\n" },
	{ "vms:\n  web:\n    image-ulr: https://x/y\n    image: a\n", F "3:5: unknown key 'image-ulr' (did you mean 'image'?)\n" },
	{ VM "    vcpus: 1\n    vcpus: 2\n", F "5:5: 'vcpus' is given twice; the first is in line 4\n" },
	{ VM "  web:\n    image: b\n", F "4:3: 'web' is given twice; the first is in line 2\n" },
	{ VM "    ? [a]\n    : b\n", F "4:7: a key must be a word, not a list\n" },
	{ VM "    disk:\n", F "4:5: 'disk' has no value (give it one, or leave the line out)\n" },
	{ VM "    vcpus: ~\n", F "4:5: 'vcpus' has no value (give it one, or leave the line out)\n" },
	{ VM "    network: null\n", F "4:14: 'network' has no value (give it one, or leave the line out)\n" },

	/* names */
	{ "vms:\n  Web:\n    image: a\n", F "2:3: 'Web' is not a name for a machine (use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end)\n" },
	{ "vms:\n  ../x:\n    image: a\n", F "2:3: '../x' is not a name for a machine (use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end)\n" },
	{ "vms:\n  \"\":\n    image: a\n", F "2:3: '' is not a name for a machine (use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end)\n" },
	{ "vms:\n  no:\n    image: a\n", F "2:3: 'name' must be a string, but no is a boolean in YAML (write it in quotes: \"no\")\n" },
	{ "vms:\n  010:\n    image: a\n", F "2:3: 'name' must be a string, but 010 is a number in YAML (write it in quotes: \"010\")\n" },

	/* machines */
	{ "vms:\n  web:\n", F "2:3: 'web' has no settings\n" },
	{ "vms:\n  web: small\n", F "2:3: 'web' must be a mapping of settings\n" },
	{ "vms:\n  web: {}\n", F "2:3: 'image' is missing (give a file, a URL or a name such as debian:12)\n" },
	{ "vms:\n  web:\n    image: {path: a, url: b}\n", F "3:27: 'image.url' can not stand beside a file (give one of them)\n" },
	{ "vms:\n  web:\n    image: {url: b, sha256: abc}\n", F "3:29: 'image.sha256' must not be that short\n" },
	{ "vms:\n  web:\n    image: {url: ./a.img}\n", F "3:18: 'url': the image is a file (write path: instead of url:)\n" },
	{ "vms:\n  web:\n    image: {url: 'a\\b'}\n", F "3:18: 'url': 'a\\b' can not be the name of an image (a name has letters, digits, '.', '_' and '-', begins with a letter or digit, and may have one ':version' of the same)\n" },
	{ "vms:\n  web:\n    image: {name: x}\n", F "3:12: 'image.url' is missing (say where the image is)\n" },
	{ "vms:\n  web:\n    image: {path: a, checksums: 'https://h/S'}\n", F "3:33: 'image.checksums' belongs to a URL (use sha256 or sha512)\n" },
	{ "vms:\n  web:\n    image: {path: 'https://h/x'}\n", F "3:19: 'path' takes the path of a file, not a URL (fetch the file first and give its path)\n" },
	{ "vms:\n  web:\n    image: {url: 'https://h/x', format: vdi}\n", F "3:41: 'image.format' is neither qcow2 nor raw (convert others with qemu-img)\n" },
	{ "vms:\n  web:\n    image: ftp://h/x\n", F "3:12: 'image': images do not come from 'ftp://' (https://, http:// and oci:// are taken)\n" },
	{ "vms:\n  web:\n    image-url: oci://x\n", F "3:16: 'image': the reference does not begin with a registry (write oci://registry/repository:tag, with docker.io for Docker Hub)\n" },
	{ "vms:\n  web:\n    image: ~root/a\n", F "3:12: 'image' can not start with another user's '~' (write the path out, or ./~name for a file of that name)\n" },
	{ "vms:\n  web:\n    image: ''\n", F "3:12: 'image' must not be empty\n" },
	{ "vms:\n  web:\n    image: \"a\\0b\"\n", F "3:12: holds a zero byte\n" },
	{ VM "    backend: kvm\n", F "4:14: 'backend': 'kvm' is none of: default, qemu, propolis, noop\n" },

	/* numbers */
	{ VM "    vcpus: 0\n", F "4:12: 'vcpus': 0 is too small: the least is 1\n" },
	{ VM "    vcpus: -1\n", F "4:12: 'vcpus': '-1' is negative\n" },
	{ VM "    vcpus: 65537\n", F "4:12: 'vcpus': 65537 is too large: the most is 255\n" },
	{ VM "    vcpus: 99999999999999999999\n", F "4:12: 'vcpus' can not be 99999999999999999999: that is too large\n" },
	{ VM "    vcpus: \"4\"\n", F "4:12: 'vcpus' must be a whole number, not a string\n" },
	{ VM "    vcpus: 1.5\n", F "4:12: 'vcpus': '1.5' is not a whole number\n" },
	{ VM "    vcpus: yes\n", F "4:12: 'vcpus' must be a number, but yes is a boolean in YAML\n" },
	{ VM "    vcpus: [1]\n", F "4:12: 'vcpus' must be a whole number, not a list\n" },
	{ VM "    vcpus: 0x1F\n", F "4:12: 'vcpus' can not be 0x1F: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },
	{ VM "    vcpus: 0o17\n", F "4:12: 'vcpus' can not be 0o17: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },
	{ VM "    memory: 0\n", F "4:13: 'memory': 0 is too small: the least is 16 MiB\n" },
	{ VM "    memory: 01024\n", F "4:13: 'memory' can not be 01024: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },
	{ VM "    memory: 1_024\n", F "4:13: 'memory' can not be 1_024: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },
	{ VM "    memory: .inf\n", F "4:13: 'memory' can not be .inf: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },
	{ VM "    memory: 1e3\n", F "4:13: 'memory' can not be 1e3: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },
	{ VM "    memory: lots\n", F "4:13: 'memory': 'lots' is not a size (write a number with a unit, such as 512MiB or 10GiB)\n" },
	{ VM "    disk: 1 elephant\n", F "4:11: 'disk': '1 elephant' is not a size (write a number with a unit, such as 512MiB or 10GiB)\n" },
	{ VM "    provision:\n      - shell: {inline: a, timeout: 12:30:45}\n", F "5:37: 'timeout' can not be 12:30:45: YAML 1.1 takes that for another number (write it in decimal digits, with a unit where one is meant)\n" },

	/* texts */
	{ VM "    cloud-init: {hostname: no}\n", F "4:28: 'hostname' must be a string, but no is a boolean in YAML (write it in quotes: \"no\")\n" },
	{ VM "    cloud-init: {hostname: Off}\n", F "4:28: 'hostname' must be a string, but Off is a boolean in YAML (write it in quotes: \"Off\")\n" },
	{ VM "    cloud-init: {hostname: n}\n", F "4:28: 'hostname' must be a string, but n is a boolean in YAML (write it in quotes: \"n\")\n" },
	{ VM "    ssh: {user: 12:30:45}\n", F "4:17: 'user' must be a string, but 12:30:45 is a number in YAML (write it in quotes: \"12:30:45\")\n" },
	{ VM "    ssh: {user: =}\n", F "4:17: 'user' must be a string, but = is a sign in YAML (write it in quotes: \"=\")\n" },
	{ VM "    ssh: {user: ~}\n", F "4:11: 'ssh.user' has no value (give it one, or leave the line out)\n" },
	{ VM "    ssh: {user: !!python/object:os.system x}\n", F "4:17: the tag 'tag:yaml.org,2002:python/object:os.system' is not taken (leave it out; put a text in quotes to keep it a text)\n" },
	{ VM "    vcpus: !!int 2\n", F "4:12: the tag 'tag:yaml.org,2002:int' is not taken (leave it out; put a text in quotes to keep it a text)\n" },
	{ VM "    ssh: debian\n", F "4:10: 'ssh' must be a mapping, not a string\n" },
	{ VM "    network: tun\n", F "4:14: 'network.type': 'tun' is none of: default, user, none, tap, vnic, private\n" },
	{ "networks: {lan: {subnet: 10.66.0.0/24}}\n" VM "    network: {name: lam}\n", F "5:21: 'network.name' is 'lam', which is no network of the file (did you mean 'lan'?)\n" },
	{ VM "    network: {name: lan}\n", F "4:21: 'network.name' is 'lan', which is no network of the file (add 'networks: {lan: {}}' at the top of the file)\n" },
	{ "networks: {lan: {subnet: 10.66.0.1/24}}\n" VM "    network: none\n", F "1:26: 'subnet' is not a network with its prefix (write it as in 10.66.0.0/24)\n" },
	{ "networks: {lan: {subnet: 10.0.0.0/8}, l2: {subnet: 10.66.0.0/24}}\n" VM "    network: none\n", F "1:52: 'subnet' overlaps the network 'lan' (a guest on both could not tell them apart)\n" },
	{ "networks: {lan: {subnet: 10.66.0.0/24}}\n" VM "    network: {name: lan, address: 10.67.0.3}\n", F "5:35: 'network.address' is not in the private network's subnet (choose another of the private network's subnet)\n" },
	{ "networks: {lan: {subnet: 10.66.0.0/24}}\n" VM "    network: {name: lan, address: 10.66.0.3}\n  b: {image: x, network: {name: lan, address: 10.66.0.3/24}}\n", F "6:47: 'network.address' is that of machine 'web' (give each machine its own, or none)\n" },
	{ VM "    networks: []\n", F "4:15: 'networks' must have between 1 and 8 entries, not 0\n" },
	{ VM "    networks: [user, user]\n", F "4:22: 'networks[1]' is a second network of type user (one is enough: they lead to the same)\n" },
	{ VM "    networks: [user, {mac: \"53:54:00:00:00:01\", type: tap, bridge: br0}]\n", F "4:28: 'networks[1].mac' is no address of a single NIC (its first byte is even, as in 52:54:00:12:34:56)\n" },
	{ VM "    network: no\n", F "4:14: 'network' must be a string, but no is a boolean in YAML (write it in quotes: \"no\")\n" },
	{ VM "    network: {type: user, link: net0}\n", F "4:33: 'network.link' belongs to network type vnic\n" },
	{ VM "    network: {type: tap, bridge: br0, address: 192.0.2.9/24}\n", F "4:48: 'network.address' belongs to network types vnic and private\n" },
	{ VM "    network: {type: vnic, address: '192.0.2.9'}\n", F "4:36: 'network.address' is not an address with its prefix (write it as in 192.0.2.10/24)\n" },
	{ VM "    network: {type: vnic, address: '192.0.2.9/33'}\n", F "4:36: 'network.address' is not an address with its prefix (write it as in 192.0.2.10/24)\n" },
	{ VM "    network: {type: vnic, address: '192.0.2.9/'}\n", F "4:36: 'network.address' is not an address with its prefix (write it as in 192.0.2.10/24)\n" },
	{ VM "    network: {type: vnic, address: '192.0.2/24'}\n", F "4:36: 'network.address' is not an address with its prefix (write it as in 192.0.2.10/24)\n" },
	{ VM "    network: {type: vnic, address: 'web/24'}\n", F "4:36: 'network.address' is not an address with its prefix (write it as in 192.0.2.10/24)\n" },
	{ VM "    network: {type: vnic, address: 'fd00::1/129'}\n", F "4:36: 'network.address' is not an address with its prefix (write it as in 192.0.2.10/24)\n" },
	{ VM "    network: {type: vnic, address: '192.0.2.0/24'}\n", F "4:36: 'network.address' is no address of a host (it names the network, all of its hosts, or none)\n" },
	{ VM "    network: {type: vnic, address: '192.0.2.255/24'}\n", F "4:36: 'network.address' is no address of a host (it names the network, all of its hosts, or none)\n" },
	{ VM "    network: {type: vnic, address: '224.0.0.1/24'}\n", F "4:36: 'network.address' is no address of a host (it names the network, all of its hosts, or none)\n" },
	{ VM "    network: {type: vnic, address: 'fd00::/64'}\n", F "4:36: 'network.address' is no address of a host (it names the network, all of its hosts, or none)\n" },
	{ VM "    network: {type: vnic, address: 'ff02::1/64'}\n", F "4:36: 'network.address' is no address of a host (it names the network, all of its hosts, or none)\n" },
	{ VM "    network: {type: vnic, address: 192.0.2.9/24, gateway: '198.51.100.1'}\n", F "4:59: 'network.gateway' is not in the address's network (a guest reaches its router without another one)\n" },
	{ VM "    network: {type: vnic, address: 192.0.2.9/24, gateway: '192.0.2.9'}\n", F "4:59: 'network.gateway' is the guest's own address\n" },
	{ VM "    network: {type: vnic, address: 192.0.2.9/24, gateway: '192.0.2.255'}\n", F "4:59: 'network.gateway' is no address of a host\n" },
	{ VM "    network: {type: vnic, address: 192.0.2.9/24, gateway: 'fd00::1'}\n", F "4:59: 'network.gateway' is of another kind than the address (both are IPv4, or both are IPv6)\n" },
	{ VM "    network: {type: vnic, address: 192.0.2.9/24, gateway: 'here'}\n", F "4:59: 'network.gateway' is not an address (write it as in 192.0.2.1)\n" },
	{ VM "    network: {type: vnic, gateway: 192.0.2.1}\n", F "4:36: 'network.gateway' needs an address (without one, DHCP says it)\n" },
	{ VM "    network: {type: vnic, dns: [192.0.2.1]}\n", F "4:32: 'network.dns' needs an address (without one, DHCP says it)\n" },
	{ VM "    network: {type: vnic, address: 192.0.2.9/24, dns: [192.0.2.1, dns.example.org]}\n", F "4:67: 'network.dns[1]' is not an address (write it as in 192.0.2.1)\n" },
	{ VM "    network: {type: vnic, name: 'web'}\n", F "4:33: 'network.name' is not the name of a link (letters, digits and '_', from a letter to a number, such as web0)\n" },
	{ VM "    network: {type: vnic, name: '0web'}\n", F "4:33: 'network.name' is not the name of a link (letters, digits and '_', from a letter to a number, such as web0)\n" },
	{ VM "    network: {type: vnic, name: 'web01'}\n", F "4:33: 'network.name' is not the name of a link (letters, digits and '_', from a letter to a number, such as web0)\n" },
	{ VM "    network: {type: vnic, name: 'we-b1'}\n", F "4:33: 'network.name' is not the name of a link (letters, digits and '_', from a letter to a number, such as web0)\n" },
	{ VM "    ssh: {port: 0}\n", F "4:17: 'ssh.port': 0 is too small: the least is 1\n" },
	{ VM "    firmware: efi\n", F "4:15: 'firmware.type': 'efi' is none of: default, bios, uefi, none (did you mean 'uefi'?)\n" },

	/* steps */
	{ VM "    provision: uname\n", F "4:16: 'provision' must be a list, not a string\n" },
	{ VM "    provision: [{}]\n", F "4:17: 'provision[0]' needs exactly one of shell and file\n" },
	{ VM "    provision: [~]\n", F "4:17: 'provision[0]' must be a mapping, not nothing\n" },
	{ VM "    provision:\n      - shell: {inline: a, script: b}\n", F "5:16: 'provision[0].shell' needs exactly one of inline and script\n" },
	{ VM "    provision:\n      - shell: {inlin: a}\n", F "5:17: unknown key 'inlin' (did you mean 'inline'?)\n" },
	{ VM "    provision:\n      - file: {source: a, destination: /b, mode: 0640}\n", F "5:50: 'mode' must be a string, but 0640 is a number in YAML (write it in quotes: \"0640\")\n" },
	{ VM "    provision:\n      - file: {source: a, destination: /b, mode: \"0849\"}\n", F "5:50: 'provision[0].file.mode' is not an octal mode (write it in quotes, such as \"0640\")\n" },
	{ VM "    provision:\n      - file: {source: a}\n", F "5:15: 'provision[0].file.destination' is missing\n" },
	{ VM "    provision:\n      - shell: {inline: a, env: {A: ~}}\n", F "5:34: 'A' has no value (write \"\" for an empty value)\n" },
	{ VM "    provision:\n      - shell: {inline: a, env: {1A: x}}\n", F "5:33: 'provision[0].shell.env': '1A' is not a name for a variable\n" },
	{ VM "    provision:\n      - shell: {inline: a, env: [x]}\n", F "5:33: 'provision[0].shell.env' must be a mapping of names to strings, not a list\n" },

	/* other machines */
	{ VM "    depends-on: db\n", F "4:17: 'depends-on' must be a list of strings, not a string\n" },
	{ VM "    depends-on: [dbb]\n  db: {image: a}\n", F "4:18: 'depends-on': there is no machine 'dbb' in the file (did you mean 'db'?)\n" },
	{ VM "    depends-on: [web]\n", F "4:18: 'depends-on': a machine can not wait for itself\n" },
	{ VM "    depends-on: [no]\n", F "4:18: 'depends-on[0]' must be a string, but no is a boolean in YAML (write it in quotes: \"no\")\n" },
	{ VM "    depends-on: [b]\n  b: {image: a, depends-on: [c]}\n  c: {image: a, depends-on: [b]}\n",
	  F "6:30: 'depends-on': machines wait for each other: b -> c -> b\n" },

	/* aliases */
	{ VM "    disk: *nothing\n", F "4:11: '*nothing' refers to an anchor that is not in the file (put values that start with '*' in quotes)\n" },
	{ "vms: &a {web: *a}\n", F "1:15: '*a' refers to what it is a part of\n" },
	{ VM "    <<: [a]\n", F "4:5: '<<' takes a mapping or a list of mappings (write <<: *name, or <<: [*one, *other])\n" },

	/* several at once, in the order of the lines; one in a shared block is told once */
	{ "vms:\n  a: &a\n    image: x\n    vcpus: 0\n  b:\n    <<: *a\n    memroy: 1\n",
	  F "4:12: 'vcpus': 0 is too small: the least is 1\n" F "7:5: unknown key 'memroy' (did you mean 'memory'?)\n" },
	{ "vms:\n  a:\n    memory: no\n    disk: x\n  B:\n    image: x\nfoo: 1\n",
	  F "2:3: 'image' is missing (give a file, a URL or a name such as debian:12)\n"
	  F "3:13: 'memory' must be a number, but no is a boolean in YAML\n"
	  F "4:11: 'disk': 'x' is not a size (write a number with a unit, such as 512MiB or 10GiB)\n"
	  F "5:3: 'B' is not a name for a machine (use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end)\n"
	  F "7:1: unknown key 'foo' (known here: vms, networks)\n" },
};
/* clang-format on */

START_TEST(vmfile__bad_files__told_with_line_and_column)
{
	struct sbuf wrong = { 0 };

	sbuf_adds(&wrong, "");
	for (size_t i = 0; i < ARRAY_LEN(bad_files); i++) {
		CLEANUP_FREE char *got =
		    problems_of(bad_files[i].text, strlen(bad_files[i].text), BACKEND_DEFAULT);

		if (!str_eq(got, bad_files[i].want))
			sbuf_addf(&wrong, "%s\n--- gives\n%s--- instead of\n%s", bad_files[i].text,
			    got, bad_files[i].want);
	}
	ck_assert_msg(wrong.len == 0, "%s", wrong.data);
	sbuf_done(&wrong);
}
END_TEST

START_TEST(vmfile__whole_example__read)
{
	struct vmfile *f =
	    good("vms:\n"
		 "  db: {image: /img/db.qcow2}\n"
		 "  web:\n"
		 "    image: ./debian-12.qcow2\n"
		 "    vcpus: 2\n"
		 "    memory: 1GiB\n"
		 "    disk: 10\n"
		 "    network: none\n"
		 "    backend: noop\n"
		 "    cloud-init: {hostname: web, ssh-key: ../k.pub}\n"
		 "    ssh:\n"
		 "    provision:\n"
		 "      - shell: \"uname -a\"\n"
		 "      - shell: {script: setup.sh, timeout: 10min, run: always,\n"
		 "                env: {A: b, NO: no, N: 0640, Y: \"\", T: 1_0}}\n"
		 "      - file: {source: app.conf, destination: /etc/a, mode: \"0640\"}\n"
		 "    depends-on: [db]\n");
	const struct vm_spec *web = vmfile_vm(f, 1);
	const struct shell_step *shell = &vm_spec_step(web, 1)->shell;
	CLEANUP_FREE char *where = vmfile_where(f, "vms[1].provision[2].file.source");

	ck_assert_str_eq(f->path, "/p/VMFile.yaml");
	ck_assert_str_eq(f->dir, "/p");
	ck_assert_uint_eq(f->vms.count, 2);
	ck_assert_str_eq(vmfile_vm(f, 0)->name, "db");
	ck_assert_str_eq(vmfile_vm(f, 0)->image.file.path, "/img/db.qcow2");
	ck_assert_uint_eq(vmfile_vm(f, 0)->memory_bytes, 1ULL << 30);
	ck_assert_str_eq(web->name, "web");
	ck_assert_str_eq(web->image.file.path, "/p/debian-12.qcow2");
	ck_assert_uint_eq(web->vcpus, 2);
	ck_assert_uint_eq(web->disk_bytes, 10ULL << 30);
	ck_assert_int_eq(web->network.type, NETWORK_NONE);
	ck_assert_int_eq(web->backend, BACKEND_NOOP);
	ck_assert_str_eq(web->cloud_init.ssh_key.path, "/k.pub");
	ck_assert(web->ssh.present);
	ck_assert_uint_eq(web->provision.count, 3);
	ck_assert_str_eq(vm_spec_step(web, 0)->shell.run_inline, "uname -a");
	ck_assert_str_eq(shell->script.path, "/p/setup.sh");
	ck_assert_uint_eq(shell->timeout_ms, 600000);
	ck_assert_int_eq(shell->run, RUN_ALWAYS);
	ck_assert_uint_eq(shell->env.count, 5);
	ck_assert_str_eq(shell->env.items[1].name, "NO");
	ck_assert_str_eq(shell->env.items[1].value, "no");
	ck_assert_str_eq(shell->env.items[2].value, "0640");
	ck_assert_str_eq(shell->env.items[3].value, "");
	ck_assert_str_eq(shell->env.items[4].value, "1_0");
	ck_assert_str_eq(vm_spec_step(web, 2)->file.mode, "0640");
	ck_assert_str_eq(web->depends_on.items[0], "db");
	ck_assert_str_eq(where, "VMFile.yaml:16:24");
	vmfile_destroy(f);
}
END_TEST

START_TEST(vmfile__private_networks__completed)
{
	struct vmfile *f = good("networks: {lan: {subnet: 10.66.0.0/24}, wan: }\n"
				"vms:\n"
				"  web: {image: ./x, networks: [user, {name: lan, address: 10.66.0.11}]}\n"
				"  db: {image: ./x, network: {name: lan}, cloud-init: {hostname: big}}\n"
				"  far: {image: ./x, networks: [user, {name: wan, hosts: [10.66.1.9 nas]}]}\n");
	const struct network_spec *web = vm_spec_nic(vmfile_vm(f, 0), 1);
	const struct network_spec *db = vm_spec_nic(vmfile_vm(f, 1), 0);
	const struct network_spec *far = vm_spec_nic(vmfile_vm(f, 2), 1);
	CLEANUP_FREE char *line = NULL;

	ck_assert_int_eq(network_type(web), NETWORK_PRIVATE);
	ck_assert_str_eq(web->subnet, "10.66.0.0/24");
	ck_assert_str_eq(web->address, "10.66.0.11/24");
	/* A free one, and always the same. */
	ck_assert(str_starts(db->address, "10.66.0.") && strstr(db->address, "/24") != NULL);
	ck_assert_str_ne(db->address, web->address);
	line = xasprintf("%.*s db", (int)strcspn(db->address, "/"), db->address);
	ck_assert_uint_eq(web->hosts.count, 2);
	ck_assert_str_eq(web->hosts.items[0], line);
	ck_assert(str_ends(web->hosts.items[1], " big"));
	ck_assert_uint_eq(db->hosts.count, 1);
	ck_assert_str_eq(db->hosts.items[0], "10.66.0.11 web");
	/* Another subnet than that of any other network. */
	ck_assert_str_eq(far->subnet, "10.66.1.0/24");
	ck_assert_uint_eq(far->hosts.count, 1);
	vmfile_destroy(f);
}
END_TEST

START_TEST(vmfile__home__expanded)
{
	struct vmfile *f;

	setenv("HOME", "/home/me", 1);
	f = good("vms: {a: {image: ~/x.img, ssh: {private-key: '~/.ssh/k'}}}");
	ck_assert_str_eq(vmfile_vm(f, 0)->image.file.path, "/home/me/x.img");
	ck_assert_str_eq(vmfile_vm(f, 0)->ssh.private_key.path, "/home/me/.ssh/k");
	vmfile_destroy(f);
}
END_TEST

START_TEST(vmfile__merge_key__own_keys_win)
{
	struct vmfile *f = good("vms:\n"
				"  a: &a {image: ./x, vcpus: 2, memory: 512}\n"
				"  b: &b {<<: *a, vcpus: 3}\n"
				"  c: {<<: [*b, *a], memory: 2GiB}\n");

	ck_assert_uint_eq(vmfile_vm(f, 1)->vcpus, 3);
	ck_assert_uint_eq(vmfile_vm(f, 1)->memory_bytes, 512ULL << 20);
	ck_assert_uint_eq(vmfile_vm(f, 2)->vcpus, 3);
	ck_assert_uint_eq(vmfile_vm(f, 2)->memory_bytes, 2ULL << 30);
	ck_assert_str_eq(vmfile_vm(f, 2)->image.file.path, "/p/x");
	vmfile_destroy(f);
}
END_TEST

START_TEST(vmfile__images__from_anywhere)
{
	static const char hex[] =
	    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	static const struct {
		const char *word, *path, *url;
	} words[] = {
		{ "debian:12", NULL, "debian:12" },
		{ "golden", NULL, "golden" },
		{ "alpine:3.20", NULL, "alpine:3.20" },
		{ "https://h/x.qcow2.zst?a=1", NULL, "https://h/x.qcow2.zst?a=1" },
		{ "oci://ghcr.io/a/b:1", NULL, "oci://ghcr.io/a/b:1" },
		{ "golden.qcow2", "/p/golden.qcow2", NULL },
		{ "sub/golden", "/p/sub/golden", NULL },
		{ "./debian", "/p/debian", NULL },
	};
	CLEANUP_FREE char *text = xasprintf(
	    "vms: {a: {image: {url: 'https://h/x', sha256: '%s', sha512: '%s%s',\n"
	    " checksums: 'https://h/SHA256SUMS', format: raw, name: mine, insecure-http: true}}}",
	    hex, hex, hex);
	struct vmfile *f = good(text);
	const struct image_spec *image = &vmfile_vm(f, 0)->image;

	ck_assert_str_eq(image->url, "https://h/x");
	ck_assert_str_eq(image->sha256, hex);
	ck_assert_uint_eq(strlen(image->sha512), 128);
	ck_assert_str_eq(image->checksums, "https://h/SHA256SUMS");
	ck_assert_str_eq(image->format, "raw");
	ck_assert_str_eq(image->name, "mine");
	ck_assert(image->insecure_http);
	vmfile_destroy(f);
	f = good("vms: {a: {image: {path: sub/x.img, name: mine}}}");
	ck_assert_str_eq(vmfile_vm(f, 0)->image.file.path, "/p/sub/x.img");
	ck_assert_str_eq(vmfile_vm(f, 0)->image.name, "mine");
	vmfile_destroy(f);
	for (size_t i = 0; i < 2 * ARRAY_LEN(words); i++) {
		const char *path = words[i / 2].path;
		CLEANUP_FREE char *one = xasprintf(
		    "vms: {a: {%s: '%s'}}", i % 2 != 0 ? "image-url" : "image", words[i / 2].word);

		f = good(one);
		image = &vmfile_vm(f, 0)->image;
		ck_assert_msg(str_eq(image->url, words[i / 2].url), "%s", one);
		ck_assert_msg(
		    path == NULL ? image->file.kind == FILE_NONE : str_eq(image->file.path, path),
		    "%s", one);
		vmfile_destroy(f);
	}
}
END_TEST

START_TEST(vmfile__noop__needs_no_image)
{
	CLEANUP_FREE char *own = problems_of("vms: {a: {backend: noop}}", 25, BACKEND_DEFAULT);
	CLEANUP_FREE char *given = problems_of("vms: {a: {vcpus: 1}}", 20, BACKEND_NOOP);
	CLEANUP_FREE char *other = problems_of("vms: {a: {backend: noop}}", 25, BACKEND_QEMU);

	ck_assert_str_eq(own, "");
	ck_assert_str_eq(given, "");
	ck_assert_str_eq(
	    other, F "1:7: 'image' is missing (give a file, a URL or a name such as debian:12)\n");
}
END_TEST

START_TEST(vmfile__billion_laughs__bounded)
{
	struct sbuf text = { 0 };
	CLEANUP_FREE char *got = NULL;

	/* 1000 machines that share one list of 1000 steps: small as a file, a million in memory. */
	sbuf_adds(&text, "vms:\n  a: &a\n    image: x\n    provision: [&s {shell: x}");
	for (int i = 0; i < 999; i++)
		sbuf_adds(&text, ", *s");
	sbuf_adds(&text, "]\n");
	for (int i = 0; i < 1000; i++)
		sbuf_addf(&text, "  m%d: *a\n", i);
	got = problems_of(text.data, text.len, BACKEND_DEFAULT);
	ck_assert_ptr_nonnull(strstr(got, "grows too large when its aliases are filled in"));
	sbuf_done(&text);
}
END_TEST

START_TEST(vmfile__limits__told)
{
	struct sbuf text = { 0 };
	CLEANUP_FREE char *deep = NULL, *wide = NULL, *many = NULL;
	size_t lines = 0;

	for (int i = 0; i < 10000; i++)
		sbuf_addc(&text, '[');
	deep = problems_of(text.data, text.len, BACKEND_DEFAULT);
	ck_assert_str_eq(deep, F "1:34: nested too deeply\n");
	sbuf_reset(&text);
	sbuf_adds(&text, "vms:\n");
	for (int i = 0; i < 1030; i++)
		sbuf_addf(&text, "  m%d: {}\n", i);
	wide = problems_of(text.data, text.len, BACKEND_DEFAULT);
	ck_assert_str_eq(wide, F "1026:3: a mapping takes at most 1024 entries\n");
	sbuf_reset(&text);
	sbuf_adds(&text, "vms:\n");
	for (int i = 0; i < 500; i++)
		sbuf_addf(&text, "  m%d: {}\n", i);
	many = problems_of(text.data, text.len, BACKEND_DEFAULT);
	for (const char *p = many; (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	ck_assert_uint_eq(lines, 100);
	sbuf_done(&text);
}
END_TEST

static char *
scratch(void)
{
	char *dir = xstrdup("/tmp/test_vmfile.XXXXXX");

	ck_assert_ptr_nonnull(mkdtemp(dir));
	return dir;
}

START_TEST(vmfile__find__parents_then_error)
{
	CLEANUP_FREE char *dir = scratch(), *sub = fs_join(dir, "a/b");
	CLEANUP_FREE char *file = fs_join(dir, VMFILE_NAME), *found = NULL, *none = NULL;
	struct err err = ERR_INIT;

	ck_assert_int_eq(fs_mkdirs(sub, 0700, NULL), 0);
	ck_assert_int_eq(chdir(sub), 0);
	ck_assert_int_eq(vmfile_find(NULL, &none, &err), E_VMFILE);
	ck_assert_ptr_nonnull(strstr(err.msg, "/a/b' or a folder above it"));
	ck_assert_int_eq(fs_write(file, VM, strlen(VM), 0600, NULL), 0);
	ck_assert_int_eq(vmfile_find(NULL, &found, &err), 0);
	ck_assert_str_eq(found, file);
	ck_assert_int_eq(vmfile_find("other.yaml", &none, &err), E_VMFILE);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

START_TEST(vmfile__load__refuses_what_is_no_file)
{
	CLEANUP_FREE char *dir = scratch(), *fifo = fs_join(dir, "fifo"),
			  *big = fs_join(dir, "big");
	struct problems problems = { 0 };
	struct vmfile *vmfile = NULL;
	struct err err = ERR_INIT;
	int fd;

	ck_assert_int_eq(vmfile_load(dir, BACKEND_DEFAULT, &vmfile, &problems, &err), E_VMFILE);
	ck_assert_ptr_nonnull(strstr(err.msg, "is not a regular file"));
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_assert_int_eq(vmfile_load(fifo, BACKEND_DEFAULT, &vmfile, &problems, &err), E_VMFILE);
	ck_assert_ptr_nonnull(strstr(err.msg, "is not a regular file"));
	fd = open(big, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, VMFILE_MAX_BYTES + 1), 0);
	close(fd);
	ck_assert_int_eq(vmfile_load(big, BACKEND_DEFAULT, &vmfile, &problems, &err), E_VMFILE);
	ck_assert_ptr_nonnull(strstr(err.msg, "is larger than 1048576 bytes"));
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

START_TEST(vmfile__load__identity_is_the_real_path)
{
	CLEANUP_FREE char *dir = scratch(), *file = fs_join(dir, VMFILE_NAME);
	CLEANUP_FREE char *link_path = fs_join(dir, "link.yaml"), *image = fs_join(dir, "a.img");
	struct problems problems = { 0 };
	struct vmfile *vmfile = NULL;
	struct err err = ERR_INIT;

	ck_assert_int_eq(fs_write(file, VM, strlen(VM), 0600, NULL), 0);
	ck_assert_int_eq(symlink(file, link_path), 0);
	ck_assert_int_eq(vmfile_load(link_path, BACKEND_DEFAULT, &vmfile, &problems, &err), 0);
	ck_assert_str_eq(vmfile->path, file);
	ck_assert_str_eq(vmfile_vm(vmfile, 0)->image.file.path, image);
	vmfile_destroy(vmfile);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("vmfile");

	UNIT_CASE(s, vmfile__bad_files__told_with_line_and_column);
	UNIT_CASE(s, vmfile__whole_example__read);
	UNIT_CASE(s, vmfile__private_networks__completed);
	UNIT_CASE(s, vmfile__home__expanded);
	UNIT_CASE(s, vmfile__merge_key__own_keys_win);
	UNIT_CASE(s, vmfile__images__from_anywhere);
	UNIT_CASE(s, vmfile__noop__needs_no_image);
	UNIT_CASE(s, vmfile__billion_laughs__bounded);
	UNIT_CASE(s, vmfile__limits__told);
	UNIT_CASE(s, vmfile__find__parents_then_error);
	UNIT_CASE(s, vmfile__load__refuses_what_is_no_file);
	UNIT_CASE(s, vmfile__load__identity_is_the_real_path);
	return unit_main(s);
}
