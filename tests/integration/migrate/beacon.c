/*
 * Copyright: the oscarv.virt authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The whole user space of the tests' tiny guest: PID 1. What a move must not disturb, it makes visible:
 *  - every 40 ms a UDP packet "MAC BOOT_ID COUNTER BLOCKS BAD" to port 7777 of the network's first address; COUNTER lives in memory only;
 *  - a child writes numbered 4 KiB blocks to the raw end of the root disk (from 48 MiB on) and reads them back: BLOCKS written, BAD ones;
 *  - a third of the memory holds noise, so that a move has something to do, and with little bandwidth can be interrupted;
 *  - the power button powers off, as in any well-behaved guest.
 * The address of eth0 is the last four bytes of its MAC (52:54:0a:58:05:15 is 10.88.5.21/24), so no seed has to be read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define FIRST (48L << 20)
#define BLOCKS 1024 /* 4 MiB, written over and over */

struct shared { volatile uint32_t blocks, bad; };

static void nap(long ms) { struct timespec t = {ms / 1000, ms % 1000 * 1000000}; nanosleep(&t, NULL); }

/* Six rounds instead of depmod: a module whose dependency is not there yet is loaded in a later one. */
static void load_modules(void) {
    char path[256];
    for (int round = 0; round < 6; round++) {
        FILE *list = fopen("/modules.list", "r");
        while (list && fgets(path, sizeof path, list)) {
            path[strcspn(path, "\n")] = 0;
            int fd = open(path, O_RDONLY);
            if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && round == 5))
                printf("beacon: module %s: %m\n", path);
            if (fd >= 0) close(fd);
        }
        if (list) fclose(list);
    }
}

static void network(int sock, unsigned char *mac) {
    struct ifreq r = {0};
    strcpy(r.ifr_name, "eth0");
    for (int i = 0; i < 100 && ioctl(sock, SIOCGIFHWADDR, &r); i++) nap(50);
    memcpy(mac, r.ifr_hwaddr.sa_data, 6);
    struct sockaddr_in a = {.sin_family = AF_INET};
    memcpy(&a.sin_addr, mac + 2, 4);
    memcpy(&r.ifr_addr, &a, sizeof a);
    ioctl(sock, SIOCSIFADDR, &r);
    a.sin_addr.s_addr = htonl(0xffffff00);
    memcpy(&r.ifr_netmask, &a, sizeof a);
    ioctl(sock, SIOCSIFNETMASK, &r);
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    ioctl(sock, SIOCSIFFLAGS, &r);
}

static void writer(struct shared *s) {
    static unsigned char block[BLOCK] __attribute__((aligned(BLOCK)));
    int fd = open("/dev/vda", O_RDWR | O_DIRECT);
    for (uint32_t n = 0;; n++, nap(80)) {
        for (int i = 0; i < BLOCK; i += 4) memcpy(block + i, &n, 4);
        if (pwrite(fd, block, BLOCK, FIRST + (long)(n % BLOCKS) * BLOCK) != BLOCK) { s->bad++; continue; }
        s->blocks = n + 1;
        if (n < 8) continue;
        uint32_t old = n - 1 - rand() % (n < BLOCKS ? n : BLOCKS - 1), got = 0;
        if (pread(fd, block, BLOCK, FIRST + (long)(old % BLOCKS) * BLOCK) == BLOCK) memcpy(&got, block, 4);
        if (got != old) s->bad++;
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    mkdir("/proc", 0755); mkdir("/sys", 0755); mkdir("/dev", 0755);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sysfs", "/sys", "sysfs", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    if (console >= 0) { dup2(console, 0); dup2(console, 1); dup2(console, 2); }
    load_modules();
    char boot[40] = "?";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (f) { if (!fgets(boot, 37, f)) boot[0] = '?'; fclose(f); }
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    unsigned char mac[6] = {0};
    network(sock, mac);
    struct shared *s = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fork() == 0) writer(s);
    struct sysinfo memory;
    sysinfo(&memory);
    long words = memory.totalram / 3 / 8;
    uint64_t x = 88172645463325252ull, *noise = mmap(NULL, words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (long i = 0; i < words; i++) { x ^= x << 13; x ^= x >> 7; x ^= x << 17; noise[i] = x; }
    for (long i = 0; i + 3 < words; i += 8192) memcpy(noise + i, "oscarv: in memory", 17); /* what nobody may read on the wire */
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(7777)};
    memcpy(&to.sin_addr, mac + 2, 4);
    ((unsigned char *)&to.sin_addr)[3] = 1;
    int inputs[8], known = 0;
    printf("beacon: up\n");
    for (unsigned long n = 0;; n++, nap(40)) {
        char text[160];
        int len = snprintf(text, sizeof text, "%02x:%02x:%02x:%02x:%02x:%02x %s %lu %u %u", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], boot, n, s->blocks, s->bad);
        sendto(sock, text, len, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
        char input[32];
        snprintf(input, sizeof input, "/dev/input/event%d", known);
        if (n % 25 == 0 && known < 8 && (inputs[known] = open(input, O_RDONLY | O_NONBLOCK)) >= 0) known++;
        struct input_event e;
        for (int i = 0; i < known; i++)
            while (read(inputs[i], &e, sizeof e) == sizeof e)
                if (e.type == EV_KEY && e.code == KEY_POWER) { sync(); reboot(RB_POWER_OFF); }
    }
}
